/* What each PBX is known to need, other than what any PBX gets. One row, one difference, and why.
 *
 * Where nothing is known there is no row. Looked at, and alike for all of them:
 *   contact           mask, which needs nothing of the PBX. Asterisk keeps Path only with
 *                     support_path=yes (off unless set), FreeSWITCH always; both take a masked
 *                     Contact as well. CUCM and 3CX document no Path.
 *   flow_gone_status  430. FreeSWITCH makes it NORMAL_UNSPECIFIED, which its caller is told as 480
 *                     (sofia_glue.c, mod_sofia.c); 480 would become 408. To its pings all but 200
 *                     and 486 is a failure, and unregister-on-options-fail forgets the contact
 *                     (sofia.c). To CUCM's OPTIONS 408 and 503 mean that all of sipward is out of
 *                     service, and nothing else does; how it takes a 430 is not documented.
 *   limits.udp_size   is about the network between. Asterisk (PJSIP_MAX_PKT_LEN), FreeSWITCH
 *                     (NTATAG_UDP_MTU) and Kamailio (BUF_SIZE) take datagrams of 65535 bytes.
 *   headers           Asterisk (trust_id_inbound) and FreeSWITCH believe P-Asserted-Identity and
 *                     Remote-Party-ID of whoever may call, CUCM Remote-Party-ID: of clients neither
 *                     passes. Which one each of them sends is set in the PBX; clients get both,
 *                     where no privacy is asked for.
 *   client_address    none reads the form we give; FreeSWITCH's X-AUTH-IP is an address alone.
 *   transport         in our URIs is that of the connection (proxy/rewrite.c).
 *   probe             any answer to OPTIONS will do. */
#include <string.h>

#include "conf/internal.h"

/* clang-format off */
const struct profile_value conf_profile_values[] = {
    /* res_pjsip.c, ast_sip_hangup_sip2cause(): 4xx that it doesn't know are 127, interworking, and
     * its caller is told 500. 480 is 19, no answer: DIALSTATUS NOANSWER, and where another contact
     * is busy Dial() doesn't say so (app_dial.c, handle_cause()). 502 is 27, which Q.850 has for a
     * destination that is off line: DIALSTATUS CHANUNAVAIL, "not currently reachable". */
    {CONF_ASTERISK, NULL, "flow_gone_status", "502", "cause 27, DIALSTATUS CHANUNAVAIL"},

    /* res_pjsip/pjsip_distributor.c, endpoint_lookup(): each OPTIONS of one who is no endpoint is a
     * NOTICE, "No matching endpoint found". fail2ban's filter for Asterisk counts those, and would
     * ban sipward and so everybody. Requests tell how a backend is, too. */
    {CONF_ASTERISK, "probe", "interval", "0", "each is logged as an intruder's, for fail2ban"},

    /* etc/kamailio.cfg has use_path=1 since 5.4. With outbound_mode a REGISTER without a Path of
     * the edge loses its reg-id (registrar/save.c), so one client's flows are no longer one. 430 is
     * known to Kamailio: outbound's t_check_status("403|430") forgets the contact. */
    {CONF_KAMAILIO, NULL, "contact", "path", "its registrar keeps Path, and outbound needs it"},

    /* 3CX's support lists the answers at which it goes on to the next route: many from 400 to 487,
     * 500 to 505, 513, 603 to 606. 430 is not among them, 480 is. */
    {CONF_3CX, NULL, "flow_gone_status", "480", "430 is not among the answers that 3CX goes on at"},
    {0}
};
/* clang-format on */

const struct profile_value *conf_profile_value(enum conf_profile profile, const struct key *key)
{
    for (const struct profile_value *row = conf_profile_values; row->key; row++) {
        const struct key *keys =
            row->map ? conf_key_find(conf_schema, row->map)->keys : conf_schema;
        if (row->profile == profile && conf_key_find(keys, row->key) == key)
            return row;
    }
    return NULL;
}
