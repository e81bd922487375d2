/* A stand-in for libnvidia-ml.so.1: the calls that the exporter makes, answered from a state file.
 *
 * FAKE_NVML_STATE names the file; it is read anew at every call, so a test changes the world by
 * replacing it. One record a line, fields divided by blanks ("na" = the driver cannot say):
 *   driver VERSION
 *   gpu INDEX UUID TOTAL RESERVED USED FREE NAME...         bytes
 *   sensors INDEX UTIL TEMPERATURE MILLIWATTS               per cent, Celsius
 *   ecc INDEX CORRECTED UNCORRECTED
 *   mig INDEX NUMBER UUID TOTAL RESERVED USED FREE [NAME]   the card is then in MIG mode
 *   proc DEVICE C|G|M PID BYTES                             DEVICE: INDEX, or INDEX.NUMBER for MIG
 *   xid INDEX SEQUENCE CODE                                 each sequence number is one event
 *   limit INDEX CGROUP SOFT HARD USED                       r615 per-cgroup account, bytes
 *   limits on                                               the driver has that call at all
 *   error FUNCTION DEVICE CODE                              DEVICE "*" for any and for none
 *   delay FUNCTION DEVICE MILLISECONDS                      -1: until the record is gone
 * Struct layouts and codes are nvml.h's, checked through pynvml; never compared with a real driver.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define TIMEOUT 10
#define FUNCTION_NOT_FOUND 13
#define VERSION_MISMATCH 25
#define ALL_ONES 0xFFFFFFFFFFFFFFFFULL
#define MAX_HANDLES 256
#define LINE_BYTES 1024
#define POLL_MICROSECONDS 5000

typedef unsigned long long u64;
typedef struct { int gpu, mig; char name[32]; } Device;
typedef Device *Handle;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned gpu, memory; } Rates;
typedef struct { Handle device; u64 type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { const char *name_space; u64 soft, hard, used; } Limits;

static Device devices[MAX_HANDLES];
static int device_count;
static long seen_sequence[MAX_HANDLES];

static FILE *open_state(void) {
    const char *path = getenv("FAKE_NVML_STATE");
    return path ? fopen(path, "r") : NULL;
}

/* Lines whose first words are `kind` and (unless NULL) `key`; `rest` gets what follows them. */
static int next_record(FILE *file, const char *kind, const char *key, char *rest) {
    char line[LINE_BYTES], word[64], second[256];
    int used;
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%63s %n", word, &used) != 1 || strcmp(word, kind)) continue;
        char *at = line + used;
        if (key) {
            int more = 0;
            if (sscanf(at, "%255s %n", second, &more) != 1 || strcmp(second, key)) continue;
            at += more;
        }
        at[strcspn(at, "\n")] = 0;
        strcpy(rest, at);
        return 1;
    }
    return 0;
}

static int find_record(const char *kind, const char *key, char *rest) {
    FILE *file = open_state();
    int found = next_record(file, kind, key, rest);
    if (file) fclose(file);
    return found;
}

static u64 amount(const char *text) { return strcmp(text, "na") ? strtoull(text, NULL, 10) : ALL_ONES; }

/* The value of the first `kind FUNCTION DEVICE VALUE` that is about this call. */
static int injected(const char *kind, const char *function, const char *device, long *value) {
    FILE *file = open_state();
    char rest[LINE_BYTES], about[64];
    int found = 0;
    while (!found && next_record(file, kind, function, rest))
        found = sscanf(rest, "%63s %ld", about, value) == 2 && (!strcmp(about, "*") || !strcmp(about, device));
    if (file) fclose(file);
    return found;
}

/* Every call passes here first: injected delays, then injected errors. */
static int enter(const char *function, Handle handle) {
    const char *device = handle ? handle->name : "";
    long value, waited = 0;
    while (injected("delay", function, device, &value) && (value < 0 || waited < value * 1000)) {
        usleep(POLL_MICROSECONDS);
        waited += POLL_MICROSECONDS;
    }
    if (injected("error", function, device, &value)) return (int)value;
    FILE *file = open_state();
    if (!file) return DRIVER_NOT_LOADED;
    fclose(file);
    return SUCCESS;
}

#define ENTER(handle) do { int injected_ = enter(__func__, handle); if (injected_) return injected_; } while (0)

static Handle handle_of(int gpu, int mig) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    int slot = 0;
    while (slot < device_count && (devices[slot].gpu != gpu || devices[slot].mig != mig)) slot++;
    if (slot >= MAX_HANDLES) abort();
    if (slot == device_count) {
        devices[slot].gpu = gpu;
        devices[slot].mig = mig;
        if (mig < 0) snprintf(devices[slot].name, sizeof devices[slot].name, "%d", gpu);
        else snprintf(devices[slot].name, sizeof devices[slot].name, "%d.%d", gpu, mig);
        device_count++;
    }
    pthread_mutex_unlock(&lock);
    return &devices[slot];
}

/* "UUID TOTAL RESERVED USED FREE NAME": of a card or of a MIG device (whose name may be empty). */
static int description(Handle handle, char *uuid, u64 *sizes, char *name) {
    char rest[LINE_BYTES], key[32], number[32], words[4][32];
    int used = 0;
    snprintf(key, sizeof key, "%d", handle->gpu);
    FILE *file = open_state();
    int found = 0;
    while (!found && next_record(file, handle->mig < 0 ? "gpu" : "mig", key, rest)) {
        char *at = rest;
        if (handle->mig >= 0) {
            if (sscanf(at, "%31s %n", number, &used) != 1 || atoi(number) != handle->mig) continue;
            at += used;
        }
        found = sscanf(at, "%95s %31s %31s %31s %31s %n", uuid, words[0], words[1], words[2], words[3], &used) == 5;
        if (found && name) strncpy(name, at + used, 95), name[95] = 0;
    }
    if (file) fclose(file);
    for (int i = 0; found && i < 4; i++) sizes[i] = amount(words[i]);
    return found ? SUCCESS : NOT_FOUND;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; ENTER(NULL); return SUCCESS; }
int nvmlInit_v2(void) { ENTER(NULL); return SUCCESS; }
int nvmlShutdown(void) { ENTER(NULL); return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case FUNCTION_NOT_FOUND: return "Function Not Found";
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Error of the stand-in";
    }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    char rest[LINE_BYTES];
    ENTER(NULL);
    if (!find_record("driver", NULL, rest)) return NOT_SUPPORTED;
    snprintf(version, length, "%s", rest);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char rest[LINE_BYTES];
    ENTER(NULL);
    FILE *file = open_state();
    for (*count = 0; next_record(file, "gpu", NULL, rest); ++*count) {}
    if (file) fclose(file);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *handle) {
    char uuid[96];
    u64 sizes[4];
    *handle = handle_of((int)index, -1);
    ENTER(*handle);
    return description(*handle, uuid, sizes, NULL) == SUCCESS ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *wanted, Handle *handle) {
    char uuid[96];
    u64 sizes[4];
    for (int gpu = 0; gpu < 64; gpu++) {
        *handle = handle_of(gpu, -1);
        if (description(*handle, uuid, sizes, NULL)) return NOT_FOUND;
        if (!strcmp(uuid, wanted)) { ENTER(*handle); return SUCCESS; }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetIndex(Handle handle, unsigned *index) { ENTER(handle); *index = (unsigned)handle->gpu; return SUCCESS; }

int nvmlDeviceGetUUID(Handle handle, char *text, unsigned length) {
    char uuid[96];
    u64 sizes[4];
    ENTER(handle);
    int code = description(handle, uuid, sizes, NULL);
    if (code == SUCCESS) snprintf(text, length, "%s", uuid);
    return code;
}

int nvmlDeviceGetName(Handle handle, char *text, unsigned length) {
    char uuid[96], name[96];
    u64 sizes[4];
    ENTER(handle);
    int code = description(handle, uuid, sizes, name);
    if (code == SUCCESS) snprintf(text, length, "%s", name);
    return code;
}

int nvmlDeviceGetMemoryInfo(Handle handle, Memory *memory) {
    char uuid[96];
    u64 sizes[4];
    ENTER(handle);
    int code = description(handle, uuid, sizes, NULL);
    if (code) return code;
    memory->total = sizes[0];
    memory->used = sizes[2] == ALL_ONES ? ALL_ONES : sizes[1] + sizes[2]; /* the old call does not split it off */
    memory->free = sizes[3];
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(Handle handle, MemoryV2 *memory) {
    char uuid[96];
    u64 sizes[4];
    ENTER(handle);
    if (memory->version != (sizeof *memory | 2U << 24)) return VERSION_MISMATCH;
    int code = description(handle, uuid, sizes, NULL);
    if (code) return code;
    memory->total = sizes[0];
    memory->reserved = sizes[1];
    memory->used = sizes[2];
    memory->free = sizes[3];
    return SUCCESS;
}

/* `position` of "UTIL TEMPERATURE MILLIWATTS" or of "CORRECTED UNCORRECTED". */
static int field(Handle handle, const char *kind, int position, u64 *value) {
    char rest[LINE_BYTES], words[3][32] = {"na", "na", "na"};
    if (handle->mig >= 0 || !find_record(kind, handle->name, rest)) return NOT_SUPPORTED;
    sscanf(rest, "%31s %31s %31s", words[0], words[1], words[2]);
    *value = amount(words[position]);
    return *value == ALL_ONES ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Handle handle, Rates *rates) {
    u64 value;
    ENTER(handle);
    int code = field(handle, "sensors", 0, &value);
    if (code == SUCCESS) rates->gpu = (unsigned)value, rates->memory = 0;
    return code;
}

int nvmlDeviceGetTemperature(Handle handle, unsigned sensor, unsigned *celsius) {
    u64 value;
    ENTER(handle);
    int code = sensor ? INVALID_ARGUMENT : field(handle, "sensors", 1, &value);
    if (code == SUCCESS) *celsius = (unsigned)value;
    return code;
}

int nvmlDeviceGetPowerUsage(Handle handle, unsigned *milliwatts) {
    u64 value;
    ENTER(handle);
    int code = field(handle, "sensors", 2, &value);
    if (code == SUCCESS) *milliwatts = (unsigned)value;
    return code;
}

int nvmlDeviceGetTotalEccErrors(Handle handle, unsigned kind, unsigned counter, u64 *count) {
    ENTER(handle);
    return counter != 1 || kind > 1 ? INVALID_ARGUMENT : field(handle, "ecc", (int)kind, count);
}

int nvmlDeviceGetMigMode(Handle handle, unsigned *current, unsigned *pending) {
    char rest[LINE_BYTES];
    ENTER(handle);
    *current = *pending = (unsigned)find_record("mig", handle->name, rest);
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Handle handle, unsigned *count) { ENTER(handle); *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(Handle handle, unsigned number, Handle *mig) {
    char uuid[96];
    u64 sizes[4];
    ENTER(handle);
    *mig = handle_of(handle->gpu, (int)number);
    return description(*mig, uuid, sizes, NULL);
}

static int processes(Handle handle, const char *list, unsigned *count, Process *rows) {
    char rest[LINE_BYTES], kind[8], bytes[32];
    unsigned room = *count, found = 0, pid;
    FILE *file = open_state();
    while (next_record(file, "proc", handle->name, rest)) {
        if (sscanf(rest, "%7s %u %31s", kind, &pid, bytes) != 3 || strcmp(kind, list)) continue;
        if (rows && found < room) {
            int instance = handle->mig < 0 ? -1 : handle->mig;
            rows[found] = (Process){pid, amount(bytes), (unsigned)instance, (unsigned)instance};
        }
        found++;
    }
    if (file) fclose(file);
    *count = found;
    return found > (rows ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Handle handle, unsigned *count, Process *rows) {
    ENTER(handle);
    return processes(handle, "C", count, rows);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Handle handle, unsigned *count, Process *rows) {
    ENTER(handle);
    return processes(handle, "G", count, rows);
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(Handle handle, unsigned *count, Process *rows) {
    ENTER(handle);
    return processes(handle, "M", count, rows);
}

int nvmlEventSetCreate(void **set) { ENTER(NULL); *set = devices; return SUCCESS; }
int nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }
int nvmlDeviceRegisterEvents(Handle handle, u64 types, void *set) { (void)types; (void)set; ENTER(handle); return SUCCESS; }

int nvmlEventSetWait_v2(void *set, Event *event, unsigned milliseconds) {
    (void)set;
    ENTER(NULL);
    for (unsigned waited = 0;; waited += POLL_MICROSECONDS / 1000) {
        char rest[LINE_BYTES];
        int gpu;
        long sequence;
        u64 code;
        FILE *file = open_state();
        while (next_record(file, "xid", NULL, rest)) {
            if (sscanf(rest, "%d %ld %llu", &gpu, &sequence, &code) != 3 || gpu < 0 || gpu >= MAX_HANDLES) continue;
            if (sequence <= seen_sequence[gpu]) continue;
            seen_sequence[gpu] = sequence;
            *event = (Event){handle_of(gpu, -1), 8, code, 0xFFFFFFFF, 0xFFFFFFFF};
            fclose(file);
            return SUCCESS;
        }
        if (file) fclose(file);
        if (waited >= milliseconds) return TIMEOUT;
        usleep(POLL_MICROSECONDS);
    }
}

int nvmlDeviceGetMemoryLimits_v1(Handle handle, Limits *limits) {
    char rest[LINE_BYTES], path[512], soft[32], hard[32], used[32];
    ENTER(handle);
    if (!find_record("limits", "on", rest)) return FUNCTION_NOT_FOUND;
    if (handle->mig >= 0) return NOT_SUPPORTED;
    FILE *file = open_state();
    int found = 0;
    while (!found && next_record(file, "limit", handle->name, rest))
        found = sscanf(rest, "%511s %31s %31s %31s", path, soft, hard, used) == 4 && !strcmp(path, limits->name_space);
    if (file) fclose(file);
    limits->soft = found ? amount(soft) : 0;
    limits->hard = found ? amount(hard) : ALL_ONES;
    limits->used = found ? amount(used) : 0;
    return SUCCESS;
}
