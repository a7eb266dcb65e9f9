/* What an operator would look at in each PBX. */
#include <string.h>

#include "doctor/internal.h"

static const struct {
    const char *in_server; /* of its Server or User-Agent header, letter case as it writes it */
    enum conf_profile profile;
} servers[] = {
    {"Asterisk",   CONF_ASTERISK  },
    {"FPBX",       CONF_ASTERISK  }, /* FreePBX, which is Asterisk */
    {"FreeSWITCH", CONF_FREESWITCH},
    {"kamailio",   CONF_KAMAILIO  },
    {"3CX",        CONF_3CX       },
    {"Cisco-CUCM", CONF_CUCM      },
};

static const struct {
    const char *name, *keyword;
} pbxs[] = {
    [CONF_GENERIC] = {"a PBX",      "generic"   },
    [CONF_ASTERISK] = {"Asterisk",   "asterisk"  },
    [CONF_FREESWITCH] = {"FreeSWITCH", "freeswitch"},
    [CONF_KAMAILIO] = {"Kamailio",   "kamailio"  },
    [CONF_3CX] = {"3CX",        "3cx"       },
    [CONF_CUCM] = {"CUCM",       "cucm"      },
};

enum conf_profile pbx_recognise(const char *server)
{
    for (size_t i = 0; i < ARRAY_LEN(servers); i++)
        if (strstr(server, servers[i].in_server))
            return servers[i].profile;
    return CONF_GENERIC;
}

const char *pbx_name(enum conf_profile profile)
{
    return pbxs[profile].name;
}

const char *pbx_keyword(enum conf_profile profile)
{
    return pbxs[profile].keyword;
}

void pbx_refused(struct doctor *doctor, enum conf_profile profile, const struct ask *ask)
{
    const char *transport = ask_transport(ask);
    char there[CORE_ADDR_TEXT];

    core_addr_text(&ask->to, there);
    switch (profile) {
    case CONF_ASTERISK:
        remedy(
            doctor,
            "on it, asterisk -rx 'pjsip show transports' says where it listens; pjsip.conf needs "
            "a transport with protocol=%s and bind=%s",
            transport, there);
        break;
    case CONF_FREESWITCH:
        remedy(doctor,
               "on it, fs_cli -x 'sofia status' says where its profiles listen: %s is not "
               "there",
               there);
        break;
    case CONF_KAMAILIO:
        remedy(doctor,
               "on it, kamcmd corex.list_sockets says where it listens; kamailio.cfg needs "
               "listen=%s:%s",
               transport, there);
        break;
    default:
        remedy(doctor, "is it running? On its machine, ss -ln%cp says where programs listen",
               *transport);
        break;
    }
}

void pbx_silent(struct doctor *doctor, enum conf_profile profile, const struct ask *ask)
{
    unsigned port = ntohs(ask->to.in.sin_port); /* at the same place in both families */
    char here[CORE_ADDR_TEXT];

    addr_host_text(&ask->from, here);
    switch (profile) {
    case CONF_ASTERISK:
        remedy(
            doctor,
            "on it, asterisk -rx 'pjsip set logger on' shows whether OPTIONS of %s come; if not, "
            "a firewall drops them, or fail2ban: fail2ban-client unban %s, and put it into "
            "ignoreip",
            here, here);
        break;
    case CONF_FREESWITCH:
        remedy(doctor,
               "on it, fs_cli -x 'sofia global siptrace on' shows whether OPTIONS of %s "
               "come; if not, a firewall drops them, or fail2ban",
               here);
        break;
    case CONF_3CX:
        remedy(doctor,
               "see whether the 3CX console has %s on its IP blacklist, allow it there, and "
               "in the firewall for port %u",
               here, port);
        break;
    default:
        remedy(doctor,
               "on its machine, tcpdump -ni any host %s and port %u shows whether OPTIONS "
               "come; if not, it is the address or a firewall; if so, the PBX ignores %s",
               here, port, here);
        break;
    }
}
