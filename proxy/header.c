/* The names that SIP gives things: headers, methods, reason phrases (IANA's SIP registries). */
#include <assert.h>

#include "proxy/message.h"

/* Every registered header, and the two that were never registered but are everywhere. */
static const struct row {
    struct str name;
    char compact;
    enum header_id id;
} rows[] = {
    {STR("Accept"),                        0,   HEADER_OTHER              },
    {STR("Accept-Contact"),                'a', HEADER_OTHER              },
    {STR("Accept-Encoding"),               0,   HEADER_OTHER              },
    {STR("Accept-Language"),               0,   HEADER_OTHER              },
    {STR("Accept-Resource-Priority"),      0,   HEADER_OTHER              },
    {STR("Additional-Identity"),           0,   HEADER_OTHER              },
    {STR("Alert-Info"),                    0,   HEADER_OTHER              },
    {STR("Allow"),                         0,   HEADER_OTHER              },
    {STR("Allow-Events"),                  'u', HEADER_OTHER              },
    {STR("Answer-Mode"),                   0,   HEADER_OTHER              },
    {STR("Authentication-Info"),           0,   HEADER_OTHER              },
    {STR("Authorization"),                 0,   HEADER_AUTHORIZATION      },
    {STR("Call-ID"),                       'i', HEADER_CALL_ID            },
    {STR("Call-Info"),                     0,   HEADER_OTHER              },
    {STR("Cellular-Network-Info"),         0,   HEADER_OTHER              },
    {STR("Contact"),                       'm', HEADER_CONTACT            },
    {STR("Content-Disposition"),           0,   HEADER_OTHER              },
    {STR("Content-Encoding"),              'e', HEADER_OTHER              },
    {STR("Content-ID"),                    0,   HEADER_OTHER              },
    {STR("Content-Language"),              0,   HEADER_OTHER              },
    {STR("Content-Length"),                'l', HEADER_CONTENT_LENGTH     },
    {STR("Content-Type"),                  'c', HEADER_CONTENT_TYPE       },
    {STR("CSeq"),                          0,   HEADER_CSEQ               },
    {STR("Date"),                          0,   HEADER_OTHER              },
    {STR("DC-Info"),                       0,   HEADER_OTHER              },
    {STR("Diversion"),                     0,   HEADER_OTHER              },
    {STR("Encryption"),                    0,   HEADER_OTHER              },
    {STR("Error-Info"),                    0,   HEADER_OTHER              },
    {STR("Event"),                         'o', HEADER_OTHER              },
    {STR("Expires"),                       0,   HEADER_EXPIRES            },
    {STR("Feature-Caps"),                  0,   HEADER_OTHER              },
    {STR("Flow-Timer"),                    0,   HEADER_FLOW_TIMER         },
    {STR("From"),                          'f', HEADER_FROM               },
    {STR("Geolocation"),                   0,   HEADER_OTHER              },
    {STR("Geolocation-Error"),             0,   HEADER_OTHER              },
    {STR("Geolocation-Routing"),           0,   HEADER_OTHER              },
    {STR("Hide"),                          0,   HEADER_OTHER              },
    {STR("History-Info"),                  0,   HEADER_OTHER              },
    {STR("Identity"),                      'y', HEADER_OTHER              },
    {STR("Identity-Info"),                 'n', HEADER_OTHER              },
    {STR("Info-Package"),                  0,   HEADER_OTHER              },
    {STR("In-Reply-To"),                   0,   HEADER_OTHER              },
    {STR("Join"),                          0,   HEADER_OTHER              },
    {STR("Max-Breadth"),                   0,   HEADER_MAX_BREADTH        },
    {STR("Max-Forwards"),                  0,   HEADER_MAX_FORWARDS       },
    {STR("MIME-Version"),                  0,   HEADER_OTHER              },
    {STR("Min-Expires"),                   0,   HEADER_MIN_EXPIRES        },
    {STR("Min-SE"),                        0,   HEADER_OTHER              },
    {STR("Organization"),                  0,   HEADER_OTHER              },
    {STR("Origination-Id"),                0,   HEADER_OTHER              },
    {STR("P-Access-Network-Info"),         0,   HEADER_OTHER              },
    {STR("P-Answer-State"),                0,   HEADER_OTHER              },
    {STR("P-Asserted-Identity"),           0,   HEADER_OTHER              },
    {STR("P-Asserted-Service"),            0,   HEADER_OTHER              },
    {STR("P-Associated-URI"),              0,   HEADER_OTHER              },
    {STR("P-Called-Party-ID"),             0,   HEADER_OTHER              },
    {STR("P-Charge-Info"),                 0,   HEADER_OTHER              },
    {STR("P-Charging-Function-Addresses"), 0,   HEADER_OTHER              },
    {STR("P-Charging-Vector"),             0,   HEADER_OTHER              },
    {STR("P-DCS-Billing-Info"),            0,   HEADER_OTHER              },
    {STR("P-DCS-LAES"),                    0,   HEADER_OTHER              },
    {STR("P-DCS-OSPS"),                    0,   HEADER_OTHER              },
    {STR("P-DCS-Redirect"),                0,   HEADER_OTHER              },
    {STR("P-DCS-Trace-Party-ID"),          0,   HEADER_OTHER              },
    {STR("P-Early-Media"),                 0,   HEADER_OTHER              },
    {STR("P-Media-Authorization"),         0,   HEADER_OTHER              },
    {STR("P-Preferred-Identity"),          0,   HEADER_OTHER              },
    {STR("P-Preferred-Service"),           0,   HEADER_OTHER              },
    {STR("P-Private-Network-Indication"),  0,   HEADER_OTHER              },
    {STR("P-Profile-Key"),                 0,   HEADER_OTHER              },
    {STR("P-Refused-URI-List"),            0,   HEADER_OTHER              },
    {STR("P-Served-User"),                 0,   HEADER_OTHER              },
    {STR("P-User-Database"),               0,   HEADER_OTHER              },
    {STR("P-Visited-Network-ID"),          0,   HEADER_OTHER              },
    {STR("Path"),                          0,   HEADER_PATH               },
    {STR("Permission-Missing"),            0,   HEADER_OTHER              },
    {STR("Policy-Contact"),                0,   HEADER_OTHER              },
    {STR("Policy-ID"),                     0,   HEADER_OTHER              },
    {STR("Priority"),                      0,   HEADER_OTHER              },
    {STR("Priority-Share"),                0,   HEADER_OTHER              },
    {STR("Priority-Verstat"),              0,   HEADER_OTHER              },
    {STR("Priv-Answer-Mode"),              0,   HEADER_OTHER              },
    {STR("Privacy"),                       0,   HEADER_OTHER              },
    {STR("Proxy-Authenticate"),            0,   HEADER_PROXY_AUTHENTICATE },
    {STR("Proxy-Authorization"),           0,   HEADER_PROXY_AUTHORIZATION},
    {STR("Proxy-Require"),                 0,   HEADER_PROXY_REQUIRE      },
    {STR("RAck"),                          0,   HEADER_OTHER              },
    {STR("Reason"),                        0,   HEADER_OTHER              },
    {STR("Reason-Phrase"),                 0,   HEADER_OTHER              },
    {STR("Record-Route"),                  0,   HEADER_RECORD_ROUTE       },
    {STR("Recv-Info"),                     0,   HEADER_OTHER              },
    {STR("Refer-Events-At"),               0,   HEADER_OTHER              },
    {STR("Refer-Sub"),                     0,   HEADER_OTHER              },
    {STR("Refer-To"),                      'r', HEADER_OTHER              },
    {STR("Referred-By"),                   'b', HEADER_OTHER              },
    {STR("Reject-Contact"),                'j', HEADER_OTHER              },
    {STR("Relayed-Charge"),                0,   HEADER_OTHER              },
    {STR("Remote-Party-ID"),               0,   HEADER_OTHER              },
    {STR("Replaces"),                      0,   HEADER_OTHER              },
    {STR("Reply-To"),                      0,   HEADER_OTHER              },
    {STR("Request-Disposition"),           'd', HEADER_OTHER              },
    {STR("Require"),                       0,   HEADER_REQUIRE            },
    {STR("Resource-Priority"),             0,   HEADER_OTHER              },
    {STR("Resource-Share"),                0,   HEADER_OTHER              },
    {STR("Response-Key"),                  0,   HEADER_OTHER              },
    {STR("Response-Source"),               0,   HEADER_OTHER              },
    {STR("Restoration-Info"),              0,   HEADER_OTHER              },
    {STR("Retry-After"),                   0,   HEADER_RETRY_AFTER        },
    {STR("Route"),                         0,   HEADER_ROUTE              },
    {STR("RSeq"),                          0,   HEADER_OTHER              },
    {STR("Security-Client"),               0,   HEADER_OTHER              },
    {STR("Security-Server"),               0,   HEADER_OTHER              },
    {STR("Security-Verify"),               0,   HEADER_OTHER              },
    {STR("Server"),                        0,   HEADER_OTHER              },
    {STR("Service-Interact-Info"),         0,   HEADER_OTHER              },
    {STR("Service-Route"),                 0,   HEADER_SERVICE_ROUTE      },
    {STR("Session-Expires"),               'x', HEADER_OTHER              },
    {STR("Session-ID"),                    0,   HEADER_OTHER              },
    {STR("SIP-ETag"),                      0,   HEADER_OTHER              },
    {STR("SIP-If-Match"),                  0,   HEADER_OTHER              },
    {STR("Subject"),                       's', HEADER_OTHER              },
    {STR("Subscription-State"),            0,   HEADER_OTHER              },
    {STR("Supported"),                     'k', HEADER_SUPPORTED          },
    {STR("Suppress-If-Match"),             0,   HEADER_OTHER              },
    {STR("Target-Dialog"),                 0,   HEADER_OTHER              },
    {STR("Timestamp"),                     0,   HEADER_TIMESTAMP          },
    {STR("To"),                            't', HEADER_TO                 },
    {STR("Trigger-Consent"),               0,   HEADER_OTHER              },
    {STR("Unsupported"),                   0,   HEADER_UNSUPPORTED        },
    {STR("User-Agent"),                    0,   HEADER_OTHER              },
    {STR("User-to-User"),                  0,   HEADER_OTHER              },
    {STR("Via"),                           'v', HEADER_VIA                },
    {STR("Warning"),                       0,   HEADER_OTHER              },
    {STR("WWW-Authenticate"),              0,   HEADER_WWW_AUTHENTICATE   },
};

static const struct {
    int status;
    const char *phrase;
} reasons[] = {
    {100, "Trying"                                 },
    {180, "Ringing"                                },
    {181, "Call Is Being Forwarded"                },
    {182, "Queued"                                 },
    {183, "Session Progress"                       },
    {199, "Early Dialog Terminated"                },
    {200, "OK"                                     },
    {202, "Accepted"                               },
    {204, "No Notification"                        },
    {300, "Multiple Choices"                       },
    {301, "Moved Permanently"                      },
    {302, "Moved Temporarily"                      },
    {305, "Use Proxy"                              },
    {380, "Alternative Service"                    },
    {400, "Bad Request"                            },
    {401, "Unauthorized"                           },
    {402, "Payment Required"                       },
    {403, "Forbidden"                              },
    {404, "Not Found"                              },
    {405, "Method Not Allowed"                     },
    {406, "Not Acceptable"                         },
    {407, "Proxy Authentication Required"          },
    {408, "Request Timeout"                        },
    {410, "Gone"                                   },
    {412, "Conditional Request Failed"             },
    {413, "Request Entity Too Large"               },
    {414, "Request-URI Too Long"                   },
    {415, "Unsupported Media Type"                 },
    {416, "Unsupported URI Scheme"                 },
    {417, "Unknown Resource-Priority"              },
    {420, "Bad Extension"                          },
    {421, "Extension Required"                     },
    {422, "Session Interval Too Small"             },
    {423, "Interval Too Brief"                     },
    {424, "Bad Location Information"               },
    {425, "Bad Alert Message"                      },
    {428, "Use Identity Header"                    },
    {429, "Provide Referrer Identity"              },
    {430, "Flow Failed"                            },
    {433, "Anonymity Disallowed"                   },
    {436, "Bad Identity Info"                      },
    {437, "Unsupported Credential"                 },
    {438, "Invalid Identity Header"                },
    {439, "First Hop Lacks Outbound Support"       },
    {440, "Max-Breadth Exceeded"                   },
    {469, "Bad Info Package"                       },
    {470, "Consent Needed"                         },
    {480, "Temporarily Unavailable"                },
    {481, "Call/Transaction Does Not Exist"        },
    {482, "Loop Detected"                          },
    {483, "Too Many Hops"                          },
    {484, "Address Incomplete"                     },
    {485, "Ambiguous"                              },
    {486, "Busy Here"                              },
    {487, "Request Terminated"                     },
    {488, "Not Acceptable Here"                    },
    {489, "Bad Event"                              },
    {491, "Request Pending"                        },
    {493, "Undecipherable"                         },
    {494, "Security Agreement Required"            },
    {500, "Server Internal Error"                  },
    {501, "Not Implemented"                        },
    {502, "Bad Gateway"                            },
    {503, "Service Unavailable"                    },
    {504, "Server Time-out"                        },
    {505, "Version Not Supported"                  },
    {513, "Message Too Large"                      },
    {555, "Push Notification Service Not Supported"},
    {580, "Precondition Failure"                   },
    {600, "Busy Everywhere"                        },
    {603, "Decline"                                },
    {604, "Does Not Exist Anywhere"                },
    {606, "Not Acceptable"                         },
    {607, "Unwanted"                               },
    {608, "Rejected"                               },
};

static const struct {
    struct str name;
    enum sip_method method;
} methods[] = {
    {STR("INVITE"),    SIP_INVITE   },
    {STR("ACK"),       SIP_ACK      },
    {STR("BYE"),       SIP_BYE      },
    {STR("CANCEL"),    SIP_CANCEL   },
    {STR("REGISTER"),  SIP_REGISTER },
    {STR("OPTIONS"),   SIP_OPTIONS  },
    {STR("SUBSCRIBE"), SIP_SUBSCRIBE},
    {STR("NOTIFY"),    SIP_NOTIFY   },
    {STR("REFER"),     SIP_REFER    },
    {STR("MESSAGE"),   SIP_MESSAGE  },
    {STR("INFO"),      SIP_INFO     },
    {STR("UPDATE"),    SIP_UPDATE   },
    {STR("PRACK"),     SIP_PRACK    },
    {STR("PUBLISH"),   SIP_PUBLISH  },
};

/* Open addressing, filled before main() and only read from then on. A slot holds a row and one. */
enum { SLOTS = 512 };
static uint8_t slots[SLOTS], row_of_compact[256], row_of_id[HEADER_ID_MAX + 1];
static uint8_t id_of_row[HEADER_ID_MAX + 1];
static_assert(HEADER_ID_COUNT + ARRAY_LEN(rows) <= HEADER_ID_MAX, "a slot and an id are a byte");

static unsigned slot_of(struct str name)
{
    unsigned first = (unsigned char)name.p[0] | 0x20U;
    unsigned middle = (unsigned char)name.p[name.len / 2] | 0x20U;
    unsigned last = (unsigned char)name.p[name.len - 1] | 0x20U;

    return ((unsigned)name.len * 23 + first * 2 + middle * 11 + last * 64) % SLOTS;
}

__attribute__((constructor)) static void slots_fill(void)
{
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned slot = slot_of(rows[i].name);
        bool named = rows[i].id != HEADER_OTHER;

        while (slots[slot])
            slot = (slot + 1) % SLOTS;
        slots[slot] = (uint8_t)(i + 1);
        row_of_compact[(unsigned char)rows[i].compact] = (uint8_t)(i + 1);
        id_of_row[i] = (uint8_t)(named ? rows[i].id : HEADER_ID_COUNT + i);
        row_of_id[id_of_row[i]] = (uint8_t)(i + 1);
    }
    row_of_compact[0] = 0;
}

struct str header_name(enum header_id id)
{
    return row_of_id[id] ? rows[row_of_id[id] - 1].name : (struct str){NULL, 0};
}

/* Its row and one; 0: not registered. */
static unsigned row_find(struct str name)
{
    unsigned row, slot;

    if (name.len < 2)
        return name.len ? row_of_compact[(unsigned char)name.p[0] | 0x20U] : 0;
    for (slot = slot_of(name); (row = slots[slot]); slot = (slot + 1) % SLOTS)
        if (str_eq_nocase(rows[row - 1].name, name))
            break;
    return row;
}

struct str header_canonical(struct str name, enum header_id *id)
{
    unsigned row = row_find(name);

    *id = row ? id_of_row[row - 1] : HEADER_OTHER;
    return row ? rows[row - 1].name : name;
}

enum sip_method sip_method_of(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (str_eq(methods[i].name, name))
            return methods[i].method;
    return SIP_OTHER;
}

const char *sip_method_name(enum sip_method method)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (methods[i].method == method)
            return methods[i].name.p;
    return "other";
}

const char *sip_reason(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].phrase;
    return "";
}
