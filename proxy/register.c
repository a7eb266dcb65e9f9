/* REGISTER (RFC 3261 10.3, RFC 3327 5.3, RFC 5626 6; rules S1, S2, S5). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "proxy/log.h"
#include "proxy/registrar_internal.h"

enum {
    FALLBACK_EXPIRES_S = 3600, /* RFC 3261 10.2.1.1: one that can't be read */
};

struct registration {
    struct location_update update;
    struct contact_change *changes;
    bool star;
    bool outbound; /* RFC 5626 6: the client asks for it, and the edge knows it */
};

/* S2: what the client asks for, within what we allow. -ERANGE: too short. */
static int expires_choose(const struct registrar *registrar, const struct sip_msg *request,
                          bool has_param, struct str param, unsigned *out)
{
    const struct conf *conf = registrar->options.conf;
    struct str asked = has_param ? param : sip_value(request, HEADER_EXPIRES);
    uint64_t expires_s = conf->registrar.default_expires_s;

    if (asked.p && str_to_uint(asked, UINT64_MAX, &expires_s))
        expires_s = FALLBACK_EXPIRES_S;
    if (expires_s && expires_s < conf->registrar.min_expires_s)
        return -ERANGE;
    if (expires_s > conf->registrar.max_expires_s)
        expires_s = conf->registrar.max_expires_s;
    *out = (unsigned)expires_s;
    return 0;
}

/* 0 to 1 with up to three decimals (RFC 3261 25.1, qvalue). */
static bool qvalue_valid(struct str q)
{
    if (!q.len || q.len > 5 || (q.p[0] != '0' && q.p[0] != '1') || (q.len > 1 && q.p[1] != '.'))
        return false;
    for (size_t i = 2; i < q.len; i++)
        if (q.p[i] < '0' || q.p[i] > (q.p[0] == '1' ? '0' : '9'))
            return false;
    return true;
}

static struct answer contact_parse(struct registrar *registrar, const struct sip_msg *request,
                                   struct str value, struct contact_change *out)
{
    struct sip_addr addr;
    struct str expires = {0}, q, reg_id;
    bool has_expires;
    int err = sip_addr_parse(&registrar->arena, value, &addr);

    if (err)
        return err == -ENOMEM ? ANSWER(500, NULL) : ANSWER(400, "Bad Contact");
    if (!str_eq_nocase(addr.uri.scheme, STR("sip")) && !str_eq_nocase(addr.uri.scheme, STR("sips")))
        return ANSWER(400, "Contact Is No SIP URI");
    has_expires = sip_param(addr.params, STR("expires"), &expires);
    if (expires_choose(registrar, request, has_expires, expires, &out->expires_s)) {
        buf_printf(&registrar->extra, "Min-Expires: %u\r\n",
                   registrar->options.conf->registrar.min_expires_s);
        return ANSWER(423, NULL);
    }
    if (sip_param(addr.params, STR("q"), &q) && !qvalue_valid(q))
        return ANSWER(400, "Bad q");
    out->params = sip_param_drop(&registrar->arena, addr.params, STR("expires"));
    if (!out->params.p)
        return ANSWER(500, NULL);
    out->uri = addr.uri;
    out->instance = (struct str){NULL, 0};
    out->reg_id = 0;
    if (sip_param(addr.params, STR("+sip.instance"), &out->instance) &&
        sip_param(addr.params, STR("reg-id"), &reg_id) &&
        (str_to_uint(reg_id, INT32_MAX, &out->reg_id) || !out->reg_id))
        return ANSWER(400, "Bad reg-id");
    return ANSWER(0, NULL);
}

static struct answer contacts_parse(struct registrar *registrar, const struct sip_msg *request,
                                    struct registration *registration)
{
    unsigned count = 0, kept = 0, with_reg_id = 0;

    registration->changes =
        arena_alloc(&registrar->arena, request->header_count * sizeof(*registration->changes));
    if (!registration->changes)
        return ANSWER(500, NULL);
    for (int i = sip_find(request, HEADER_CONTACT, 0); i >= 0;
         i = sip_find(request, HEADER_CONTACT, (unsigned)i + 1)) {
        struct contact_change *change = &registration->changes[count];
        struct answer answer;

        if (registration->star)
            return ANSWER(400, "Contact * Is Not Alone");
        if (str_eq(request->headers[i].value, STR("*"))) {
            if (count)
                return ANSWER(400, "Contact * Is Not Alone");
            registration->star = true;
            continue;
        }
        answer = contact_parse(registrar, request, request->headers[i].value, change);
        if (answer.status)
            return answer;
        count++;
        kept += change->expires_s > 0;
        with_reg_id += change->reg_id > 0;
    }
    if (kept > 1 && with_reg_id) /* RFC 5626 6 */
        return ANSWER(400, "Several Contacts With reg-id");
    registration->update.changes = registration->changes;
    registration->update.change_count = count;
    registration->outbound = kept && with_reg_id;
    return ANSWER(0, NULL);
}

/* RFC 3327 5.3; and is the proxy next to the client one for outbound (RFC 5626 6)? */
static struct answer paths_parse(struct registrar *registrar, const struct sip_msg *request,
                                 struct registration *registration)
{
    struct location_update *update = &registration->update;
    bool ob = false;

    for (int i = sip_find(request, HEADER_PATH, 0); i >= 0;
         i = sip_find(request, HEADER_PATH, (unsigned)i + 1)) {
        struct sip_addr addr;

        if (update->path_count == BINDING_PATHS_MAX)
            return ANSWER(400, "Too Many Path Values");
        if (sip_addr_parse(&registrar->arena, request->headers[i].value, &addr))
            return ANSWER(400, "Bad Path");
        update->paths[update->path_count++] = request->headers[i].value;
        ob = sip_param(addr.uri.params, STR("ob"), NULL);
    }
    registration->outbound =
        registration->outbound && ob && sip_has_token(request, HEADER_SUPPORTED, STR("outbound"));
    return ANSWER(0, NULL);
}

/* The edge's flow behind each Contact: its token is in the Path next to us, or in the Contact that
 * it masked. */
static void flows_find(struct registrar *registrar, struct registration *registration)
{
    const struct location_update *update = &registration->update;
    struct sip_addr path;
    bool has_path =
        update->path_count && sip_addr_parse(&registrar->arena, update->paths[0], &path) == 0;

    for (unsigned i = 0; i < update->change_count; i++) {
        struct contact_change *change = &registration->changes[i];
        struct str token = {NULL, 0};

        if (has_path)
            token = path.uri.user;
        else
            (void)sip_param(change->uri.params, STR("flow"), &token);
        change->has_flow = token.p && token_flow_id(&registrar->arena, token, change->flow);
    }
}

/* The 200: all bindings with the time left, the Path as it came, and what is in use. A list that
 * is too long for one answer is cut at its oldest end. */
static void bindings_print(struct registrar *registrar, const struct aor *aor,
                           const struct registration *registration, uint64_t now)
{
    const struct location_update *update = &registration->update;
    struct buf *out = &registrar->extra;

    buf_printf(out, "Supported: path, outbound\r\n");
    if (registration->outbound)
        buf_printf(out, "Require: outbound\r\n");
    for (unsigned i = 0; i < update->path_count; i++)
        buf_printf(out, "Path: " STR_FMT "\r\n", STR_ARG(update->paths[i]));
    for (const struct binding *binding = aor->bindings; binding; binding = binding->next) {
        size_t before = out->len;

        buf_printf(out, "Contact: <" STR_FMT ">" STR_FMT ";expires=%" PRIu64 "\r\n",
                   STR_ARG(binding->uri.text), STR_ARG(binding->params),
                   binding->expires_at > now ? (binding->expires_at - now + 999) / 1000 : 0);
        if (out->overflow) {
            out->len = before;
            out->overflow = false;
            return;
        }
    }
}

static void registration_log(const struct sip_msg *request, const struct aor *aor,
                             const struct location_update *update)
{
    const struct {
        const char *what;
        unsigned count;
    } events[] = {
        {"registered",          update->added    },
        {"refreshed",           update->refreshed},
        {"unregistered",        update->removed  },
        {"replaced the oldest", update->replaced },
    };

    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        if (events[i].count)
            log_event(LOG_INFO, events[i].what, LOG_TEXT("aor", str_of(aor->user->name)),
                      LOG_NUMBER("contacts", aor->count), LOG_TEXT("call-id", request->call_id));
}

/* Change the bindings (S1, S5). */
static struct answer bindings_change(struct registrar *registrar, const struct sip_msg *request,
                                     struct aor *aor, uint64_t now)
{
    struct registration registration = {
        .update = {.call_id = request->call_id, .cseq = request->cseq}
    };
    struct location_update *update = &registration.update;
    struct answer answer = contacts_parse(registrar, request, &registration);
    uint64_t expires = 1;
    int err = 0;

    if (!answer.status)
        answer = paths_parse(registrar, request, &registration);
    if (!answer.status)
        flows_find(registrar, &registration);
    if (!answer.status && registrar->arena.no_memory)
        answer = ANSWER(503, NULL);
    if (answer.status)
        return answer;
    if (registration.star) {
        if (str_to_uint(sip_value(request, HEADER_EXPIRES), UINT64_MAX, &expires) || expires)
            return ANSWER(400, "Contact * Needs Expires 0");
        err = location_clear(aor, update);
    } else if (update->change_count) {
        err = location_update(aor, update, now);
    }
    switch (err) {
    case 0: break;
    case -ESTALE: return ANSWER(500, "CSeq Is Lower Than Before");
    case -ENOSPC: return ANSWER(403, "Too Many Contacts");
    case -EMSGSIZE: return ANSWER(400, "Contact And Path Are Too Long");
    default: return ANSWER(500, NULL);
    }
    registration_log(request, aor, update);
    bindings_print(registrar, aor, &registration, now);
    return ANSWER(200, NULL);
}

/* RFC 3261 10.3, steps 1 to 8. A user of the file that doesn't exist is challenged as any other,
 * and its credentials are wrong: who may not register learns no names. */
struct answer register_handle(struct registrar *registrar, const struct sip_msg *request,
                              const struct sip_uri *target, uint64_t now)
{
    static const struct str known[] = {
        {"path",     4},
        {"outbound", 8},
    };
    struct sip_addr to;
    struct str user;
    struct aor *aor;
    struct answer answer;
    unsigned index;

    if (sip_addr_parse(&registrar->arena, sip_value(request, HEADER_TO), &to))
        return ANSWER(400, "Bad To");
    if (!host_is_ours(registrar, target->host) || !host_is_ours(registrar, to.uri.host))
        return ANSWER(404, "Not Our Domain");
    if (options_unsupported(registrar, request, HEADER_REQUIRE, known, ARRAY_LEN(known)))
        return ANSWER(420, NULL);
    user = location_user(&registrar->arena, &to.uri);
    answer = authenticate(registrar, request, user, now, &aor, &index);
    if (answer.status)
        return answer;
    if (!str_eq(user, str_of(aor->user->name))) {
        refused_log(request, user, "credentials of another user");
        return ANSWER(403, "Not Your Address");
    }
    return bindings_change(registrar, request, aor, now);
}
