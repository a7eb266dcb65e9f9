/* Certificates made for a test: self-signed, in a folder that goes away with it. */
#pragma once

#include <openssl/ssl.h>

struct pki_spec {
    const char *san;              /* "DNS:sip.example.com,DNS:*.example.org" */
    int rsa_bits;                 /* 0: EC P-256 */
    long from_s, until_s;         /* from now; until 0: ten years */
    const char *password, *usage; /* NULL: none; usage as extendedKeyUsage spells it */
};

const char *pki_folder(void); /* made when first asked for */
void pki_remove(void);
const char *pki_path(const char *name); /* in that folder; good until the 8th call from here */
void pki_make(const struct pki_spec *spec, const char *chain, const char *key); /* names in it */
void pki_write(const char *name, const char *text);
void pki_join(const char *name, const char *first, const char *second); /* one file after another */
