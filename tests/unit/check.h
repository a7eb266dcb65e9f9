/* What the tests of messages share: cmocka, and checks whose failure names the case. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/str.h"

#define CHECK_INT(what, got, want)                                                                 \
    do {                                                                                           \
        long long got_ = (got), want_ = (want);                                                    \
        if (got_ != want_)                                                                         \
            fail_msg("%s: %s is %lld, not %lld", what, #got, got_, want_);                         \
    } while (0)

#define CHECK_STR(what, got, want)                                                                 \
    do {                                                                                           \
        struct str got_ = (got), want_ = (want);                                                   \
        if (!str_eq(got_, want_))                                                                  \
            fail_msg("%s: %s is\n" STR_FMT "\nnot\n" STR_FMT, what, #got, STR_ARG(got_),           \
                     STR_ARG(want_));                                                              \
    } while (0)
