/* This machine: its addresses, the sipward that runs on it, and who has a port. What /proc does not
 * show to this user is not known, and said so. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor/internal.h"

enum { PROC_PATH = 64, COMMAND_MAX = 4096, STATE_LISTENING = 0x0a, STATE_BOUND = 0x07 };

/* ---- addresses ---- */

bool addr_is_loopback(const struct core_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return ntohl(addr->in.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&addr->in6.sin6_addr);
}

bool addr_is_private(const struct core_addr *addr)
{
    static const struct {
        uint32_t network;
        unsigned bits;
    } networks[] = {
        {0x0a000000, 8 },
        {0xac100000, 12},
        {0xc0a80000, 16},
        {0x64400000, 10},
        {0xa9fe0000, 16}
    };

    if (addr->sa.sa_family == AF_INET6)
        return (addr->in6.sin6_addr.s6_addr[0] & 0xfe) == 0xfc ||
               IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr);
    for (size_t i = 0; i < ARRAY_LEN(networks); i++)
        if (!((ntohl(addr->in.sin_addr.s_addr) ^ networks[i].network) >> (32 - networks[i].bits)))
            return true;
    return false;
}

void addr_host_text(const struct core_addr *addr, char text[CORE_ADDR_TEXT])
{
    if (addr->sa.sa_family == AF_INET)
        inet_ntop(AF_INET, &addr->in.sin_addr, text, CORE_ADDR_TEXT);
    else
        inet_ntop(AF_INET6, &addr->in6.sin6_addr, text, CORE_ADDR_TEXT);
}

static void addresses_look(struct doctor *doctor)
{
    struct ifaddrs *all;

    if (getifaddrs(&all))
        return;
    for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
        struct core_addr *addr = &doctor->addresses[doctor->address_count];
        int family = one->ifa_addr ? one->ifa_addr->sa_family : AF_UNSPEC;

        if ((family != AF_INET && family != AF_INET6) ||
            doctor->address_count == MACHINE_ADDRESSES_MAX)
            continue;
        memcpy(&addr->sa, one->ifa_addr, family == AF_INET ? sizeof(addr->in) : sizeof(addr->in6));
        doctor->address_count++;
    }
    freeifaddrs(all);
}

bool machine_has(const struct doctor *doctor, const struct core_addr *addr)
{
    if (addr->sa.sa_family == AF_INET && addr_is_loopback(addr))
        return true; /* all of 127.0.0.0/8 */
    for (unsigned i = 0; i < doctor->address_count; i++)
        if (core_addr_same_host(&doctor->addresses[i], addr))
            return true;
    return false;
}

void machine_text(const struct doctor *doctor, int family, char *text, size_t size)
{
    size_t len = 0;

    *text = '\0';
    for (unsigned i = 0; i < doctor->address_count; i++) {
        const struct core_addr *addr = &doctor->addresses[i];
        char one[CORE_ADDR_TEXT];

        if ((family && addr->sa.sa_family != family) || addr_is_loopback(addr) ||
            (addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&addr->in6.sin6_addr)))
            continue;
        addr_host_text(addr, one);
        if (len + strlen(one) + 8 < size)
            len += (size_t)snprintf(text + len, size - len, "%s%s", len ? ", " : "", one);
    }
}

/* ---- processes ---- */

/* What a small file has, with a NUL. -1: it can't be read. */
static ssize_t proc_read(pid_t pid, const char *name, char *bytes, size_t size)
{
    char path[PROC_PATH];
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    len = read(fd, bytes, size - 1);
    close(fd);
    bytes[len > 0 ? len : 0] = '\0';
    return len;
}

static pid_t process_next(DIR *proc)
{
    const struct dirent *entry;

    while ((entry = readdir(proc)))
        if (isdigit((unsigned char)entry->d_name[0]))
            return (pid_t)strtol(entry->d_name, NULL, 10);
    return 0;
}

static bool name_same(pid_t pid, const char *name)
{
    char own[PROGRAM_TEXT];

    return proc_read(pid, "comm", own, sizeof(own)) > 0 && !strcmp(own, name);
}

/* In a container beside this one things may have the same names. Not visible: then it may be. */
static bool network_same(pid_t pid)
{
    char path[PROC_PATH], own[PROC_PATH], other[PROC_PATH];
    ssize_t own_len = readlink("/proc/self/ns/net", own, sizeof(own)), len;

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    len = readlink(path, other, sizeof(other));
    return len < 0 || own_len < 0 || (len == own_len && !memcmp(own, other, (size_t)len));
}

/* Whether the argument of a process means the file at `path`. Its folder may not be visible to this
 * user: then a relative name says nothing. */
static bool file_same(pid_t pid, const char *argument, const char *path)
{
    char link[PROC_PATH], folder[PATH_MAX] = "", named[2 * PATH_MAX], real[PATH_MAX];

    (void)snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
    if (*argument != '/' && readlink(link, folder, sizeof(folder) - 1) < 0)
        return false;
    (void)snprintf(named, sizeof(named), "%s/%s", folder, argument);
    return realpath(named, real) && !strcmp(real, path);
}

/* "sipward FILE", and nothing that only looks at it. */
static bool process_runs(pid_t pid, const char *path)
{
    char command[COMMAND_MAX];
    ssize_t len = proc_read(pid, "cmdline", command, sizeof(command));

    if (len <= 0)
        return false;
    for (const char *at = command + strlen(command) + 1; at < command + len; at += strlen(at) + 1) {
        if (!strcmp(at, "doctor") || !strcmp(at, "check"))
            return false;
        if (file_same(pid, at, path))
            return true;
    }
    return false;
}

static void running_look(struct doctor *doctor)
{
    char own[PROGRAM_TEXT], path[PATH_MAX];
    DIR *proc = opendir("/proc");
    pid_t pid;

    if (proc && realpath(doctor->options->path, path) &&
        proc_read(getpid(), "comm", own, sizeof(own)) > 0)
        while (!doctor->running && (pid = process_next(proc)))
            if (pid != getpid() && name_same(pid, own) && network_same(pid) &&
                process_runs(pid, path))
                doctor->running = pid;
    if (proc)
        closedir(proc);
}

unsigned long running_descriptors(const struct doctor *doctor)
{
    static const char row[] = "\nMax open files"; /* soft, hard, unit (proc(5)) */
    char text[COMMAND_MAX];
    const char *at;

    if (!doctor->running || proc_read(doctor->running, "limits", text, sizeof(text)) <= 0)
        return 0;
    at = strstr(text, row);
    return at ? strtoul(at + sizeof(row) - 1, NULL, 10) : 0;
}

void machine_look(struct doctor *doctor)
{
    addresses_look(doctor);
    running_look(doctor);
}

/* ---- ports ---- */

/* A socket of the kernel's table that keeps others from an address. */
struct holder {
    unsigned long inode;
    uid_t uid;
};

/* Addresses there are words of the machine, in hexadecimal. */
static bool row_address(const char *text, bool six, struct core_addr *out)
{
    char *end;

    *out = (struct core_addr){.kind = CORE_UDP};
    out->sa.sa_family = six ? AF_INET6 : AF_INET;
    for (unsigned i = 0; i < (six ? 4 : 1); i++) {
        char word[9];
        uint32_t value;

        (void)snprintf(word, sizeof(word), "%.8s", text + (size_t)8 * i);
        value = (uint32_t)strtoul(word, &end, 16);
        if (end != word + 8)
            return false;
        memcpy(six ? (char *)&out->in6.sin6_addr + (size_t)4 * i : (char *)&out->in.sin_addr,
               &value, sizeof(value));
    }
    if (text[six ? 32 : 8] != ':')
        return false;
    core_addr_port_set(out, (uint16_t)strtoul(text + (six ? 33 : 9), NULL, 16));
    return true;
}

static bool addr_is_any(const struct core_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return addr->in.sin_addr.s_addr == INADDR_ANY;
    return IN6_IS_ADDR_UNSPECIFIED(&addr->in6.sin6_addr);
}

/* Both at one port, and one covers the other. A socket on [::] mostly takes IPv4 as well. */
static bool addr_clashes(const struct core_addr *one, const struct core_addr *other)
{
    if (one->in.sin_port != other->in.sin_port) /* at the same place in both families */
        return false;
    if (one->sa.sa_family == other->sa.sa_family)
        return addr_is_any(one) || addr_is_any(other) || core_addr_same_host(one, other);
    return (one->sa.sa_family == AF_INET6 && addr_is_any(one)) ||
           (other->sa.sa_family == AF_INET6 && addr_is_any(other));
}

/* A row of /proc/net/tcp, udp, ... (proc(5)), cut at its blanks. */
enum { COLUMN_LOCAL = 1, COLUMN_STATE = 3, COLUMN_UID = 7, COLUMN_INODE = 9, COLUMNS };

static bool row_read(char *line, unsigned state, const struct core_addr *addr, bool six,
                     struct holder *out)
{
    char *columns[COLUMNS], *rest = line;
    unsigned count = 0;
    struct core_addr own;

    while (count < COLUMNS && (columns[count] = strsep(&rest, " ")))
        count += *columns[count] != '\0';
    if (count < COLUMNS || strtoul(columns[COLUMN_STATE], NULL, 16) != state ||
        !row_address(columns[COLUMN_LOCAL], six, &own) || !addr_clashes(&own, addr))
        return false;
    *out = (struct holder){strtoul(columns[COLUMN_INODE], NULL, 10),
                           (uid_t)strtoul(columns[COLUMN_UID], NULL, 10)};
    return true;
}

static bool table_find(const char *table, bool six, unsigned state, const struct core_addr *addr,
                       struct holder *out)
{
    FILE *file = fopen(table, "re");
    bool found = false;
    char line[512];

    while (file && !found && fgets(line, sizeof(line), file))
        found = row_read(line, state, addr, six, out);
    if (file)
        (void)fclose(file);
    return found;
}

static bool process_has(pid_t pid, unsigned long inode)
{
    char path[PROC_PATH], wanted[PROC_PATH], link[PROC_PATH];
    const struct dirent *entry;
    bool found = false;
    DIR *folder;

    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    (void)snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
    folder = opendir(path);
    while (folder && !found && (entry = readdir(folder))) {
        ssize_t len = readlinkat(dirfd(folder), entry->d_name, link, sizeof(link) - 1);

        if (len < 0)
            continue;
        link[len] = '\0';
        found = !strcmp(link, wanted);
    }
    if (folder)
        closedir(folder);
    return found;
}

/* The file descriptors of another user's process are not visible, but whose it is. */
static bool process_is_of(pid_t pid, uid_t uid)
{
    char path[PROC_PATH];
    struct stat status;

    (void)snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    return !stat(path, &status) && status.st_uid == uid;
}

struct taker port_taker(const struct doctor *doctor, int type, const struct core_addr *addr)
{
    struct taker taker = {0};
    struct holder holder;
    DIR *proc;
    pid_t pid;

    if (type == SOCK_STREAM)
        taker.found = table_find("/proc/net/tcp", false, STATE_LISTENING, addr, &holder) ||
                      table_find("/proc/net/tcp6", true, STATE_LISTENING, addr, &holder);
    else
        taker.found = table_find("/proc/net/udp", false, STATE_BOUND, addr, &holder) ||
                      table_find("/proc/net/udp6", true, STATE_BOUND, addr, &holder);
    if (!taker.found)
        return taker;
    proc = opendir("/proc");
    while (proc && !taker.pid && (pid = process_next(proc)))
        if (process_has(pid, holder.inode))
            taker.pid = pid;
    if (proc)
        closedir(proc);
    if (taker.pid && proc_read(taker.pid, "comm", taker.program, sizeof(taker.program)) > 0)
        taker.program[strcspn(taker.program, "\n")] = '\0';
    if (doctor->running)
        taker.ours =
            taker.pid ? taker.pid == doctor->running : process_is_of(doctor->running, holder.uid);
    else /* it may run where its process is not visible from here */
        taker.ours = !taker.pid && doctor->answers;
    return taker;
}

void taker_text(const struct taker *taker, char text[TAKER_TEXT])
{
    if (taker->pid)
        (void)snprintf(text, TAKER_TEXT, "%s (process %d)", taker->program, (int)taker->pid);
    else
        (void)snprintf(text, TAKER_TEXT, "another program, which this user can't see");
}

void ours_text(const struct doctor *doctor, char text[TAKER_TEXT])
{
    if (doctor->running)
        (void)snprintf(text, TAKER_TEXT, "the sipward that runs (process %d)",
                       (int)doctor->running);
    else
        (void)snprintf(text, TAKER_TEXT, "the sipward that answers at %s", doctor->answers_at);
}
