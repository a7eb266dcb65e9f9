#include "proxy/transaction.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/transaction_internal.h"

enum {
    KEY_MAX = SIP_HEADERS_BYTES + 256, /* parts of one message, and the hop */
    OUT_MAX = 2 * SIP_HEADERS_BYTES,   /* a response of ours: Vias of the request, and `extra` */
};

bool hop_same_host(const struct hop *a, const struct hop *b)
{
    if (a->flow || b->flow)
        return a->flow == b->flow;
    return core_addr_same_host(&a->core, &b->core);
}

static bool passing(int err)
{
    return err == -ENOBUFS || err == -EAGAIN || err == -EINTR || err == -ENOMEM;
}

int hop_send(const struct transactions *transactions, const struct hop *to, struct str bytes)
{
    int err = transactions->options.send(transactions->options.context, to, bytes);

    if (!err || (hop_unreliable(to) && passing(err)))
        return 0;
    return -EPIPE;
}

int hop_send_again(struct transactions *transactions, const struct hop *to, struct str bytes)
{
    transactions->repeated.sent[hop_side(to)]++;
    return hop_send(transactions, to, bytes);
}

static int fill_random(void *at, size_t len)
{
    ssize_t got = getrandom(at, len, 0); /* whole up to 256 bytes (getrandom(2)) */

    return got == (ssize_t)len ? 0 : -EIO;
}

uint64_t transactions_random(struct transactions *transactions)
{
    if (!transactions->random_left) {
        uint64_t fresh[ARRAY_LEN(transactions->random)];

        /* It worked at creation. Should it fail now, then what is derived from old values with the
         * secret will do: tags and generations have to be unique, not unguessable. */
        if (fill_random(fresh, sizeof(fresh)))
            for (size_t i = 0; i < ARRAY_LEN(fresh); i++)
                fresh[i] =
                    XXH3_64bits_withSecret(&transactions->random[i], sizeof(uint64_t),
                                           transactions->secret, sizeof(transactions->secret));
        memcpy(transactions->random, fresh, sizeof(fresh));
        transactions->random_left = ARRAY_LEN(transactions->random);
    }
    return transactions->random[--transactions->random_left];
}

uint64_t transactions_hash(const struct transactions *transactions, struct str bytes)
{
    return XXH3_64bits_withSecret(bytes.p ? bytes.p : "", bytes.len, transactions->secret,
                                  sizeof(transactions->secret));
}

int text_keep(struct transactions *transactions, struct str bytes, struct kept_text *out)
{
    bool pooled = bytes.len <= TEXT_POOLED;
    char *p = pooled ? pool_take(&transactions->text_pool) : malloc(bytes.len);

    if (!p)
        return -ENOMEM;
    memcpy(p, bytes.p, bytes.len);
    *out = (struct kept_text){p, bytes.len, pooled};
    return 0;
}

void text_forget(struct transactions *transactions, struct kept_text *text)
{
    if (text->pooled)
        pool_give(&transactions->text_pool, text->p);
    else
        free(text->p);
    *text = (struct kept_text){NULL, 0, false};
}

int transactions_create(const struct transactions_options *options, struct transactions **out)
{
    struct transactions *transactions = calloc(1, sizeof(*transactions));
    int err;

    if (!transactions)
        return -ENOMEM;
    transactions->options = *options;
    err = fill_random(transactions->secret, sizeof(transactions->secret));
    if (!err)
        err = fill_random(transactions->random, sizeof(transactions->random));
    transactions->random_left = ARRAY_LEN(transactions->random);
    transactions->text_pool.size = TEXT_POOLED;
    client_transactions_create(transactions);
    if (!err)
        err = server_transactions_create(transactions);
    if (!err)
        err = buf_create(&transactions->key, KEY_MAX);
    if (!err)
        err = buf_create(&transactions->out, OUT_MAX);
    if (err) {
        transactions_destroy(&transactions);
        return err;
    }
    *out = transactions;
    return 0;
}

void transactions_destroy(struct transactions **transactions)
{
    if (!*transactions)
        return;
    server_transactions_destroy(*transactions);
    client_transactions_destroy(*transactions);
    pool_clear(&(*transactions)->text_pool);
    buf_destroy(&(*transactions)->key);
    buf_destroy(&(*transactions)->out);
    free(*transactions);
    *transactions = NULL;
}

void transactions_max_set(struct transactions *transactions, size_t max)
{
    transactions->options.max = max;
}

size_t transactions_count(const struct transactions *transactions)
{
    return transactions->server_count + transactions->client_count;
}

bool transactions_crowded(const struct transactions *transactions)
{
    size_t half = transactions->options.max / 2;

    return transactions->server_count > half || transactions->client_count > half;
}

size_t transactions_left(const struct transactions *transactions)
{
    return transactions->left_count;
}

uint64_t transactions_given_up(const struct transactions *transactions)
{
    return transactions->given_up;
}

const struct retransmissions *transactions_repeated(const struct transactions *transactions)
{
    return &transactions->repeated;
}
