/* The backends: what their names come to, whether they answer, and what they say of themselves. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "doctor/internal.h"
#include "proxy/endpoints.h"

enum {
    INVITE_OF_BROWSER = 6000, /* bytes: 3 to 6 kB are seen */
    CLOCK_APART_S = 60,
    WHO_TEXT = CORE_ADDR_TEXT + DNS_NAME_SIZE + 16,
};

/* ---- whom to ask ---- */

static bool has_websocket(const struct conf *conf)
{
    for (unsigned i = 0; i < conf->listener_count; i++)
        if (listener_has_websocket(&conf->listeners[i]))
            return true;
    return false;
}

static void ask_add(struct doctor *doctor, unsigned backend, const struct core_addr *to,
                    bool advice)
{
    for (unsigned i = 0; i < doctor->ask_count; i++)
        if (core_addr_eq(&doctor->asks[i].to, to)) {
            doctor->asks[i].advice &= advice;
            return;
        }
    if (doctor->ask_count < ASKS_MAX)
        doctor->asks[doctor->ask_count++] =
            (struct ask){.to = *to, .backend = backend, .advice = advice, .fd = -1};
}

void backends_asks(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;

    for (unsigned i = 0; i < conf->backend_count; i++) {
        const struct resolve_result *result = doctor->backends[i];
        bool both = conf->backends[i].transport == CONF_TRANSPORT_AUTO;

        for (unsigned j = 0; result && j < result->count; j++) {
            struct core_addr to = endpoint_addr(&result->addresses[j]);

            if (!endpoint_wanted(conf, result, j))
                continue;
            ask_add(doctor, i, &to, false);
            to.kind = CORE_TCP; /* where it is udp: would TCP do for what browsers send? */
            if (both || has_websocket(conf))
                ask_add(doctor, i, &to, !both);
        }
    }
}

/* ---- answers ---- */

/* "udp 10.0.0.5:5060", and of which name */
static void who_text(const struct doctor *doctor, const struct ask *ask, char text[WHO_TEXT])
{
    const char *host = doctor->conf->backends[ask->backend].host;
    char there[CORE_ADDR_TEXT], address[CORE_ADDR_TEXT];

    core_addr_text(&ask->to, there);
    addr_host_text(&ask->to, address);
    if (strcmp(host, address) != 0)
        (void)snprintf(text, WHO_TEXT, "%s %s (%s)", ask_transport(ask), there, host);
    else
        (void)snprintf(text, WHO_TEXT, "%s %s", ask_transport(ask), there);
}

static void answered(struct doctor *doctor, const struct ask *ask, const char *who)
{
    bool busy = ask->code == 503 || ask->code == 408;
    bool login = ask->code == 401 || ask->code == 407;

    finding(doctor, busy ? STATUS_WARNING : STATUS_OK, "options",
            "%s answers OPTIONS in %u ms: %d %s%s%s%s%s", who, ask->took_ms, ask->code, ask->reason,
            *ask->server ? ", " : "", ask->server,
            *ask->server ? "" : " (it does not say what it is)",
            login ? "; it wants a password of strangers, which is fine" : "");
    if (busy)
        remedy(doctor, "sipward sends nothing new to one that answers its probes so: see in the "
                       "PBX's log why it does");
    else if (ask->code == 403)
        remedy(doctor, "any answer will do for sipward; but see that the PBX's access list has its "
                       "address");
}

/* Who it seems to be, for advice: what the file says, or what it has said by another transport. */
static enum conf_profile profile_of(const struct doctor *doctor, const struct ask *ask)
{
    for (unsigned i = 0; i < doctor->ask_count; i++)
        if (doctor->asks[i].backend == ask->backend && doctor->asks[i].state == ASK_ANSWERED &&
            pbx_recognise(doctor->asks[i].server) != CONF_GENERIC)
            return pbx_recognise(doctor->asks[i].server);
    return doctor->conf->profile;
}

/* TCP of an `auto:` backend can be done without (T7). */
static bool can_do_without(const struct doctor *doctor, const struct ask *ask)
{
    return ask->to.kind == CORE_TCP &&
           doctor->conf->backends[ask->backend].transport == CONF_TRANSPORT_AUTO;
}

static void unanswered(struct doctor *doctor, const struct ask *ask, const char *who)
{
    enum status status = can_do_without(doctor, ask) ? STATUS_WARNING : STATUS_FAILED;
    enum conf_profile profile = profile_of(doctor, ask);
    char host[CORE_ADDR_TEXT];

    addr_host_text(&ask->to, host);
    if (ask->state == ASK_SILENT) {
        finding(doctor, status, "options", "%s does not answer OPTIONS%s", who,
                ask->to.kind == CORE_TCP ? ", though it takes the connection" : "");
        pbx_silent(doctor, profile, ask);
        return;
    }
    switch (ask->err) {
    case -ECONNREFUSED:
        finding(doctor, status, "options", "%s refuses: nothing listens there%s", who,
                can_do_without(doctor, ask) ? ", so large requests go in fragments by UDP" : "");
        pbx_refused(doctor, profile, ask);
        break;
    case -ETIMEDOUT:
        finding(doctor, status, "options", "%s takes no connection: nothing comes back", who);
        pbx_silent(doctor, profile, ask);
        break;
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        finding(doctor, status, "options", "%s can't be reached: %s", who, strerror(-ask->err));
        remedy(doctor, "ip route get %s shows which way the system takes; ping %s", host, host);
        break;
    case -EBADMSG:
        finding(doctor, status, "options", "%s answers with what is no SIP: %s", who, ask->reason);
        remedy(doctor, "is that the PBX's SIP port? 5060 unless it was changed; 5061 is for TLS");
        break;
    case -ECONNRESET:
        finding(doctor, status, "options", "%s ends the connection without an answer", who);
        pbx_silent(doctor, profile, ask);
        break;
    default:
        finding(doctor, status, "options", "%s can't be asked: %s", who, strerror(-ask->err));
        remedy(doctor, "see the core address above; ip route get %s", host);
        break;
    }
}

static void names_come_to(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;

    for (unsigned i = 0; i < conf->backend_count; i++) {
        const struct conf_backend *backend = &conf->backends[i];

        if (doctor->backends[i] && doctor->backends[i]->count)
            continue;
        finding(doctor, STATUS_FAILED, "name", "no address is known for the backend %s%s",
                backend->host,
                doctor->backends[i] ? "" : ": the name servers did not answer in time");
        remedy(doctor, "nslookup %s shows what the DNS says; or give its address in `backends`",
               backend->host);
    }
}

/* From where it was asked: some PBXs answer by that. */
static void source_say(struct doctor *doctor)
{
    char text[CORE_ADDR_TEXT];

    for (unsigned i = 0; i < doctor->ask_count; i++) {
        const struct ask *ask = &doctor->asks[i];

        if (ask->to.kind != CORE_UDP || !ask->from.in.sin_port)
            continue;
        core_addr_text(&ask->from, text);
        finding(doctor, STATUS_OK, "source",
                doctor->core_taken ? "asked from %s, as sipward's own port is taken"
                                   : "asked from %s, as sipward itself will",
                text);
        return;
    }
}

/* ---- what they say of themselves ---- */

static void profile_check(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;
    bool said[CONF_CUCM + 1] = {false};

    for (unsigned i = 0; i < doctor->ask_count; i++) {
        const struct ask *ask = &doctor->asks[i];
        enum conf_profile is =
            ask->state == ASK_ANSWERED ? pbx_recognise(ask->server) : CONF_GENERIC;

        if (is == CONF_GENERIC || is == conf->profile || said[is])
            continue;
        said[is] = true;
        if (conf->profile == CONF_GENERIC) {
            finding(doctor, STATUS_WARNING, "profile", "a backend is %s, and no profile is set",
                    pbx_name(is));
            remedy(doctor, "set profile: %s; sipward check then says what that does, and why",
                   pbx_keyword(is));
        } else {
            finding(doctor, STATUS_WARNING, "profile",
                    "the file says profile: %s, and a backend is %s", pbx_keyword(conf->profile),
                    pbx_name(is));
            remedy(doctor, "profile: %s, if all backends are that", pbx_keyword(is));
        }
    }
}

/* How a client's registration is to lead back to it (R5, R6, RFC 3327). */
static void path_check(struct doctor *doctor)
{
    const struct conf *conf = doctor->conf;
    bool listed = false, missing = false;

    if (!conf->contact_path) {
        finding(doctor, STATUS_OK, "path",
                "contact: mask, so nothing depends on whether a PBX keeps Path");
        return;
    }
    for (unsigned i = 0; i < doctor->ask_count; i++) {
        listed |= doctor->asks[i].supports_path;
        missing |= doctor->asks[i].lists_supported && !doctor->asks[i].supports_path;
    }
    if (listed && !missing) {
        finding(doctor, STATUS_OK, "path",
                "contact: path, and Supported in the answer to OPTIONS has path");
    } else if (missing) {
        finding(doctor, STATUS_WARNING, "path",
                "contact: path, but Supported in the answer to OPTIONS does not have path");
        remedy(doctor, "if clients register but calls don't reach them: contact: mask (Asterisk "
                       "keeps Path only with support_path=yes of the AOR)");
    } else if (conf->profile == CONF_KAMAILIO) {
        finding(
            doctor, STATUS_OK, "path",
            "contact: path, which Kamailio's own configuration keeps since 5.4; its answer does "
            "not say (in kamailio.cfg: modparam(\"registrar\", \"use_path\", 1))");
    } else {
        finding(doctor, STATUS_WARNING, "path",
                "contact: path, and no answer says whether the PBX keeps Path");
        remedy(doctor, "if clients register but calls don't reach them: contact: mask, which needs "
                       "nothing of the PBX");
    }
}

/* ---- large requests (T7) ---- */

static const struct ask *by_tcp(const struct doctor *doctor, const struct ask *udp)
{
    struct core_addr to = udp->to;

    to.kind = CORE_TCP;
    for (unsigned i = 0; i < doctor->ask_count; i++)
        if (core_addr_eq(&doctor->asks[i].to, &to))
            return &doctor->asks[i];
    return NULL;
}

static void size_check(struct doctor *doctor, const struct ask *ask)
{
    const struct conf *conf = doctor->conf;
    const struct conf_backend *backend = &conf->backends[ask->backend];
    unsigned headers = ask->to.sa.sa_family == AF_INET ? 28 : 48; /* IP and UDP */
    const struct ask *tcp = by_tcp(doctor, ask);
    char there[CORE_ADDR_TEXT];

    core_addr_text(&ask->to, there);
    if (backend->transport == CONF_TRANSPORT_AUTO) {
        if (conf->limits.udp_size + headers <= ask->mtu) {
            finding(doctor, STATUS_OK, "size",
                    "requests over %zu bytes go to %s by TCP; the way there takes packets of %u",
                    conf->limits.udp_size, there, ask->mtu);
            return;
        }
        finding(doctor, STATUS_WARNING, "size",
                "the way to %s takes packets of %u bytes, and requests of up to %zu go by UDP: in "
                "fragments",
                there, ask->mtu, conf->limits.udp_size);
        remedy(doctor, "limits: {udp_size: %u}", ask->mtu > 400 ? ask->mtu - 200 : 200);
        return;
    }
    if (ask->mtu >= INVITE_OF_BROWSER + headers || !has_websocket(conf))
        return;
    finding(doctor, STATUS_WARNING, "size",
            "the way to %s takes packets of %u bytes: INVITEs of browsers (3 to 6 kB) go there in "
            "fragments, which some firewalls drop",
            there, ask->mtu);
    if (tcp && tcp->state == ASK_ANSWERED)
        remedy(doctor, "it answers by TCP as well: auto:%s in `backends` in place of udp:%s", there,
               there);
    else
        remedy(doctor,
               "if calls of browsers don't get there, let the PBX listen for TCP on that "
               "port as well, and write auto:%s in `backends`",
               there);
}

/* ---- all of it ---- */

static void date_check(struct doctor *doctor, const struct ask *ask, const char *who)
{
    int64_t apart = ask->date_s ? ask->date_s - (int64_t)time(NULL) : 0;

    if (apart > -CLOCK_APART_S && apart < CLOCK_APART_S)
        return;
    finding(doctor, STATUS_WARNING, "clock", "the clock of %s is %" PRId64 " s %s this machine's",
            who, apart < 0 ? -apart : apart, apart < 0 ? "behind" : "ahead of");
    remedy(doctor, "on both machines, timedatectl shows whether it is synchronised");
}

void backends_check(struct doctor *doctor)
{
    char who[WHO_TEXT];

    if (!doctor->conf->backend_count)
        return;
    names_come_to(doctor);
    for (unsigned i = 0; i < doctor->ask_count; i++) {
        const struct ask *ask = &doctor->asks[i];

        if (ask->advice)
            continue;
        who_text(doctor, ask, who);
        if (ask->state == ASK_ANSWERED)
            answered(doctor, ask, who);
        else
            unanswered(doctor, ask, who);
        date_check(doctor, ask, who);
        if (ask->mtu && ask->state == ASK_ANSWERED)
            size_check(doctor, ask);
    }
    source_say(doctor);
    profile_check(doctor);
    path_check(doctor);
}
