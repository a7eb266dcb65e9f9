#include "announce.h"

#include "listeners.h"
#include "proxy/log.h"

static const char *const transports[] = {
    [CONF_TRANSPORT_UDP] = "udp",
    [CONF_TRANSPORT_TCP] = "tcp",
    [CONF_TRANSPORT_AUTO] = "auto",
};

static void log_listener(const char *what, const struct conf_listener *listener)
{
    char text[LISTENER_TEXT];

    listener_text(listener, text);
    log_event(LOG_INFO, what, LOG_TEXT("kind", str_of(conf_listener_kind_name(listener->kind))),
              LOG_TEXT("address", str_of(text)));
}

void announce_listeners(const struct conf *conf, const struct conf *before)
{
    for (unsigned i = 0; i < conf->listener_count; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        int at = before ? conf_listener_at(before, listener) : -1;

        if (at < 0 || before->listeners[at].kind != listener->kind)
            log_listener("listening", listener);
    }
    for (unsigned i = 0; before && i < before->listener_count; i++)
        if (conf_listener_at(conf, &before->listeners[i]) < 0)
            log_listener("listening no more", &before->listeners[i]);
}

static void log_backend(const struct conf_backend *backend, unsigned index,
                        const struct core_view *view)
{
    char text[CORE_ADDR_TEXT];
    bool none = true;

    for (unsigned i = 0; i < view->endpoint_count; i++) {
        if (view->endpoints[i].backend != index)
            continue;
        none = false;
        core_addr_text(&view->endpoints[i].addr, text);
        log_event(LOG_INFO, "backend", LOG_TEXT("name", str_of(backend->host)),
                  LOG_TEXT("address", str_of(text)),
                  LOG_TEXT("transport", str_of(transports[backend->transport])));
    }
    if (none)
        log_event(LOG_WARNING, "backend has no address yet",
                  LOG_TEXT("name", str_of(backend->host)),
                  LOG_TEXT("transport", str_of(transports[backend->transport])));
}

static void log_embedded(const struct conf *conf, const struct conf *before)
{
    if (before && !before->backend_count && before->user_count == conf->user_count)
        return;
    log_event(LOG_INFO, "embedded registrar", LOG_TEXT("domain", str_of(conf->domain)),
              LOG_NUMBER("users", conf->user_count));
}

static void log_locals(const struct core_view *view)
{
    const struct core_addr *locals[] = {&view->local4, &view->local6};
    char text[CORE_ADDR_TEXT];

    for (size_t i = 0; i < ARRAY_LEN(locals); i++)
        if (locals[i]->in.sin_port) { /* at the same place in both families */
            core_addr_text(locals[i], text);
            log_event(LOG_INFO, "core side", LOG_TEXT("address", str_of(text)));
        }
}

void announce_core(const struct core_view *view, const struct conf *before)
{
    const struct conf *conf = view->conf;

    if (!conf->backend_count)
        log_embedded(conf, before);
    else if (!before) /* those that come later are told where they are found */
        log_locals(view);
    for (unsigned i = 0; i < conf->backend_count; i++)
        if (!before || conf_backend_at(before, &conf->backends[i]) < 0)
            log_backend(&conf->backends[i], i, view);
    for (unsigned i = 0; before && i < before->backend_count; i++)
        if (conf_backend_at(conf, &before->backends[i]) < 0)
            log_event(LOG_INFO, "backend removed",
                      LOG_TEXT("name", str_of(before->backends[i].host)),
                      LOG_TEXT("transport", str_of(transports[before->backends[i].transport])));
}
