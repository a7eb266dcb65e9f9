/* The doctor's report, and the small things that it knows by itself. What it finds on a real
 * machine is in tests/e2e/test_doctor.py. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "check.h"
#include "doctor/internal.h"

static struct doctor doctor;
static const struct doctor_options options = {.path = "/etc/sipward/\xff.yaml"};

static int report_open(void **state)
{
    (void)state;
    doctor = (struct doctor){.options = &options, .checks = json_array(), .check = "names"};
    finding(&doctor, STATUS_OK, "domain", "%s is fine", "sip.test");
    doctor.check = "backends";
    finding(&doctor, STATUS_WARNING, "options", "it says \033[31m\"red\", \xc3\xa9 and a line\n");
    remedy(&doctor, "profile: %s", "asterisk");
    finding(&doctor, STATUS_FAILED, "options", "not UTF-8: \xff\xfe, \xc3\xa9");
    return 0;
}

static int report_close(void **state)
{
    (void)state;
    json_decref(doctor.checks);
    return 0;
}

static char *printed(void (*report)(const struct doctor *doctor, FILE *out))
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    report(&doctor, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void text_has_families_marks_remedies_and_a_sum(void **state)
{
    char *text = printed(report_text);

    (void)state;
    assert_string_equal(text, "Names that clients use\n"
                              "  ✓ sip.test is fine\n"
                              "\n"
                              "Backends\n"
                              "  ! it says ?[31m\"red\", é and a line?\n"
                              "    → profile: asterisk\n"
                              "  ✗ not UTF-8: ??, ??\n"
                              "\n"
                              "1 failed, 1 to look at, 1 fine\n");
    assert_true(doctor.failed);
    free(text);
}

static void json_has_the_same_facts(void **state)
{
    char *text = printed(report_json);
    json_t *all = json_loads(text, 0, NULL), *checks;
    const char *file, *id, *status, *said, *advice;
    int failed, warnings, ok;

    (void)state;
    assert_non_null(all);
    assert_int_equal(json_unpack(all, "{s:s, s:i, s:i, s:i, s:o!}", "file", &file, "failed",
                                 &failed, "warnings", &warnings, "ok", &ok, "checks", &checks),
                     0);
    assert_string_equal(file, "/etc/sipward/?.yaml");
    assert_true(failed == 1 && warnings == 1 && ok == 1);
    assert_int_equal(json_array_size(checks), 3);
    assert_int_equal(json_unpack(json_array_get(checks, 1), "{s:s, s:s, s:s, s:s!}", "id", &id,
                                 "status", &status, "text", &said, "remedy", &advice),
                     0);
    assert_string_equal(id, "backends.options");
    assert_string_equal(status, "warning");
    assert_string_equal(said, "it says ?[31m\"red\", é and a line?");
    assert_string_equal(advice, "profile: asterisk");
    assert_null(json_object_get(json_array_get(checks, 0), "remedy"));
    json_decref(all);
    free(text);
}

static void each_line_is_a_finding(void **state)
{
    (void)state;
    findings_lines(&doctor, "file", "");
    assert_int_equal(json_array_size(doctor.checks), 3);
    findings_lines(&doctor, "file", "one\ntwo\n");
    findings_lines(&doctor, "file", "three");
    assert_int_equal(json_array_size(doctor.checks), 6);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(doctor.checks, 5), "text")), "three");
}

static void a_pbx_is_known_by_what_it_says(void **state)
{
    static const struct {
        const char *server;
        enum conf_profile is;
    } servers[] = {
        {"Asterisk PBX 22.1.0",                        CONF_ASTERISK  },
        {"FPBX-16.0.40(18.20.0)",                      CONF_ASTERISK  },
        {"FreeSWITCH-mod_sofia/1.10.11+git~20231222T", CONF_FREESWITCH},
        {"kamailio (5.6.3 (x86_64/linux))",            CONF_KAMAILIO  },
        {"3CXPhoneSystem 18.0.5.418 (418)",            CONF_3CX       },
        {"Cisco-CUCM14.0",                             CONF_CUCM      },
        {"OpenSIPS (3.4.2 (x86_64/linux))",            CONF_GENERIC   },
        {"",                                           CONF_GENERIC   },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(servers); i++)
        CHECK_INT(servers[i].server, pbx_recognise(servers[i].server), servers[i].is);
}

static void private_and_loopback_addresses_are_known(void **state)
{
    static const struct {
        const char *text;
        bool is_private, is_loopback;
    } addresses[] = {
        {"10.255.255.255", true,  false},
        {"11.0.0.1",       false, false},
        {"172.15.255.255", false, false},
        {"172.16.0.1",     true,  false},
        {"172.31.255.255", true,  false},
        {"172.32.0.0",     false, false},
        {"192.168.1.1",    true,  false},
        {"100.64.0.1",     true,  false},
        {"100.128.0.1",    false, false},
        {"169.254.1.1",    true,  false},
        {"127.0.0.2",      false, true },
        {"198.51.100.7",   false, false},
        {"fd00::1",        true,  false},
        {"fe80::1",        true,  false},
        {"2001:db8::1",    false, false},
        {"::1",            false, true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct core_addr addr = {.kind = CORE_UDP};
        bool six = strchr(addresses[i].text, ':');

        addr.sa.sa_family = six ? AF_INET6 : AF_INET;
        assert_int_equal(inet_pton(addr.sa.sa_family, addresses[i].text,
                                   six ? (void *)&addr.in6.sin6_addr : (void *)&addr.in.sin_addr),
                         1);
        CHECK_INT(addresses[i].text, addr_is_private(&addr), addresses[i].is_private);
        CHECK_INT(addresses[i].text, addr_is_loopback(&addr), addresses[i].is_loopback);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(text_has_families_marks_remedies_and_a_sum, report_open,
                                        report_close),
        cmocka_unit_test_setup_teardown(json_has_the_same_facts, report_open, report_close),
        cmocka_unit_test_setup_teardown(each_line_is_a_finding, report_open, report_close),
        cmocka_unit_test(a_pbx_is_known_by_what_it_says),
        cmocka_unit_test(private_and_loopback_addresses_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
