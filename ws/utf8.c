#include "ws/utf8.h"

/* Bytes of one character, by its first byte, and the range of its second one (RFC 3629 4): what
 * rules out overlong forms, surrogates and what is above U+10FFFF. */
static size_t character(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t len;

    if (p[0] >= 0xC2 && p[0] <= 0xDF)
        len = 2;
    else if ((p[0] & 0xF0) == 0xE0)
        len = 3;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4)
        len = 4;
    else
        return 0;
    switch (p[0]) {
    case 0xE0: low = 0xA0; break;
    case 0xED: high = 0x9F; break;
    case 0xF0: low = 0x90; break;
    case 0xF4: high = 0x8F; break;
    default: break;
    }

    if (left < len || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

/* Where the first byte beyond ASCII may be: SIP is ASCII nearly everywhere. */
static size_t ascii(const unsigned char *p, size_t i, size_t len)
{
    uint64_t four[4];

    for (; len - i >= sizeof(four); i += sizeof(four)) {
        memcpy(four, p + i, sizeof(four));
        if ((four[0] | four[1] | four[2] | four[3]) & 0x8080808080808080)
            break;
    }
    while (i < len && p[i] < 0x80)
        i++;
    return i;
}

bool utf8_valid(struct str bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    size_t i = ascii(p, 0, bytes.len);

    while (i < bytes.len) {
        size_t len = character(p + i, bytes.len - i);

        if (!len)
            return false;
        i = ascii(p, i + len, bytes.len);
    }
    return true;
}
