/*
 * A PKCS#11 module that forwards every call to a real one and does harm on the
 * way, as the rules of a control file say. For tests only; see doc.go of package
 * faultmodule, which writes the rules.
 *
 * The name of the control file is written into the library. The file is mapped
 * shared: rules take effect at the next call, in whatever process that is, and the
 * counters outlive a process that a rule killed. A copy of the library has the same
 * control file and a copy of the real module for itself, as a copy of that would.
 *
 * Every argument of a PKCS#11 2.40 function is an integer or a pointer, and on
 * the platforms signet runs on (LP64) each travels in one machine word. So one
 * table of names and numbers of arguments is all that forwarding needs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef uintptr_t W;
typedef unsigned long RV;
_Static_assert(sizeof(W) == sizeof(unsigned long), "CK_ULONG is one word");

/* CK_FUNCTION_LIST in its order: name, number of arguments. Go reads it too. */
#define FUNCTIONS                    \
	F(C_Initialize, 1)           \
	F(C_Finalize, 1)             \
	F(C_GetInfo, 1)              \
	F(C_GetFunctionList, 1)      \
	F(C_GetSlotList, 3)          \
	F(C_GetSlotInfo, 2)          \
	F(C_GetTokenInfo, 2)         \
	F(C_GetMechanismList, 3)     \
	F(C_GetMechanismInfo, 3)     \
	F(C_InitToken, 4)            \
	F(C_InitPIN, 3)              \
	F(C_SetPIN, 5)               \
	F(C_OpenSession, 5)          \
	F(C_CloseSession, 1)         \
	F(C_CloseAllSessions, 1)     \
	F(C_GetSessionInfo, 2)       \
	F(C_GetOperationState, 3)    \
	F(C_SetOperationState, 5)    \
	F(C_Login, 4)                \
	F(C_Logout, 1)               \
	F(C_CreateObject, 4)         \
	F(C_CopyObject, 5)           \
	F(C_DestroyObject, 2)        \
	F(C_GetObjectSize, 3)        \
	F(C_GetAttributeValue, 4)    \
	F(C_SetAttributeValue, 4)    \
	F(C_FindObjectsInit, 3)      \
	F(C_FindObjects, 4)          \
	F(C_FindObjectsFinal, 1)     \
	F(C_EncryptInit, 3)          \
	F(C_Encrypt, 5)              \
	F(C_EncryptUpdate, 5)        \
	F(C_EncryptFinal, 3)         \
	F(C_DecryptInit, 3)          \
	F(C_Decrypt, 5)              \
	F(C_DecryptUpdate, 5)        \
	F(C_DecryptFinal, 3)         \
	F(C_DigestInit, 2)           \
	F(C_Digest, 5)               \
	F(C_DigestUpdate, 3)         \
	F(C_DigestKey, 2)            \
	F(C_DigestFinal, 3)          \
	F(C_SignInit, 3)             \
	F(C_Sign, 5)                 \
	F(C_SignUpdate, 3)           \
	F(C_SignFinal, 3)            \
	F(C_SignRecoverInit, 3)      \
	F(C_SignRecover, 5)          \
	F(C_VerifyInit, 3)           \
	F(C_Verify, 5)               \
	F(C_VerifyUpdate, 3)         \
	F(C_VerifyFinal, 3)          \
	F(C_VerifyRecoverInit, 3)    \
	F(C_VerifyRecover, 5)        \
	F(C_DigestEncryptUpdate, 5)  \
	F(C_DecryptDigestUpdate, 5)  \
	F(C_SignEncryptUpdate, 5)    \
	F(C_DecryptVerifyUpdate, 5)  \
	F(C_GenerateKey, 5)          \
	F(C_GenerateKeyPair, 8)      \
	F(C_WrapKey, 6)              \
	F(C_UnwrapKey, 8)            \
	F(C_DeriveKey, 6)            \
	F(C_SeedRandom, 3)           \
	F(C_GenerateRandom, 3)       \
	F(C_GetFunctionStatus, 1)    \
	F(C_CancelFunction, 1)       \
	F(C_WaitForSlotEvent, 3)

enum {
#define F(name, n) I_##name,
	FUNCTIONS
#undef F
	COUNT
};
_Static_assert(COUNT == 68, "PKCS#11 2.40 has 68 functions");

static const unsigned char arity[COUNT] = {
#define F(name, n) n,
	FUNCTIONS
#undef F
};

struct list { /* CK_FUNCTION_LIST */
	unsigned char version[2];
	void *f[COUNT];
};

/* The control file. Go writes it; control.go has the same layout. */
enum action { NONE, RETURN, DELAY, HANG, ABORT, SEGV, KILL, CLOSE_ALL, LOGOUT, FLIP, LIE, HALF, LEAK };

struct rule {
	_Atomic uint32_t active;
	uint32_t action, function, late; /* function: 0 = any, else 1 + its index */
	uint64_t after, times, chance, seed;
	uint64_t value, extra;
	_Atomic uint64_t seen, hits;
	uint64_t spare[6];
};

enum { RULES = 256, MAGIC = 0x51676e74 };

struct control {
	uint32_t magic, size;
	_Atomic uint32_t token; /* 0 there, 1 away, 2 away until the next C_Initialize */
	uint32_t spare;
	_Atomic uint64_t calls[COUNT];
	char real[1024];
	struct rule rules[RULES];
};
_Static_assert(sizeof(struct rule) == 128, "layout");

static struct control *ctl;
static void *library;
static struct list *real;
/* Strikes are exclusive: SoftHSM crashes when sessions are closed under the feet
 * of a call, and its C_Logout logs out first and takes handles away later. */
static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
static int away; /* the token's absence was noticed; guarded by gate */

enum {
	CKR_HOST_MEMORY = 0x02,
	CKR_GENERAL_ERROR = 0x05,
	CKR_DEVICE_REMOVED = 0x32,
	CKR_TOKEN_NOT_PRESENT = 0xE0,
	CKR_CRYPTOKI_NOT_INITIALIZED = 0x190,
};

struct list *fault_list(void);

/* Go writes the path over this text. */
__attribute__((used)) static volatile char control_path[1024] = "SIGNET FAULT CONTROL FILE";

/* copied returns a file of its own with the content of path, -1 when it can not. */
static int copied(const char *path) {
	int from = open(path, O_RDONLY | O_CLOEXEC), to = memfd_create("faultmodule", MFD_CLOEXEC);
	struct stat st;
	off_t at = 0;
	if (from < 0 || to < 0 || fstat(from, &st) != 0)
		return -1;
	while (at < st.st_size)
		if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0)
			return -1;
	close(from);
	return to; /* stays open: the loader knows the library by this number */
}

static void *load(const char *path, const char *control) {
	Dl_info self;
	if (!dladdr((void *)(uintptr_t)fault_list, &self))
		return 0;
	size_t n = strlen(self.dli_fname);
	if (strncmp(self.dli_fname, control, n) == 0 && strcmp(control + n, ".ctl") == 0)
		return dlopen(path, RTLD_NOW | RTLD_LOCAL);
	char own[64];
	int fd = copied(path);
	if (fd < 0)
		return 0;
	snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
	return dlopen(own, RTLD_NOW | RTLD_LOCAL);
}

static int attach(void) {
	if (ctl)
		return 1;
	char path[sizeof control_path];
	for (size_t i = 0; i < sizeof path; i++)
		path[i] = control_path[i];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 0;
	struct control *c = mmap(0, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (c == MAP_FAILED)
		return 0;
	if (c->magic != MAGIC || c->size != sizeof *c || !(library = load(c->real, path)))
		goto fail;
	RV (*get)(struct list **) = (RV(*)(struct list **))(uintptr_t)dlsym(library, "C_GetFunctionList");
	if (!get || get(&real))
		goto fail;
	ctl = c;
	return 1;
fail:
	munmap(c, sizeof *c);
	return 0;
}

__attribute__((destructor)) static void detach(void) {
	if (library)
		dlclose(library);
	if (ctl)
		munmap(ctl, sizeof *ctl);
}

static RV forward(int i, W *a) {
	void *f = real->f[i];
	switch (arity[i]) {
	case 1: return ((RV(*)(W))f)(a[0]);
	case 2: return ((RV(*)(W, W))f)(a[0], a[1]);
	case 3: return ((RV(*)(W, W, W))f)(a[0], a[1], a[2]);
	case 4: return ((RV(*)(W, W, W, W))f)(a[0], a[1], a[2], a[3]);
	case 5: return ((RV(*)(W, W, W, W, W))f)(a[0], a[1], a[2], a[3], a[4]);
	case 6: return ((RV(*)(W, W, W, W, W, W))f)(a[0], a[1], a[2], a[3], a[4], a[5]);
	case 8: return ((RV(*)(W, W, W, W, W, W, W, W))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	}
	return CKR_GENERAL_ERROR;
}

/* Functions whose first argument is a session. */
static int in_session(int i) {
	return i == I_C_InitPIN || i == I_C_SetPIN || i == I_C_CloseSession || (i >= I_C_GetSessionInfo && i < I_C_WaitForSlotEvent);
}

/* Functions whose first argument is a slot that must hold a token. */
static int at_token(int i) {
	return i == I_C_GetTokenInfo || i == I_C_GetMechanismList || i == I_C_GetMechanismInfo || i == I_C_InitToken || i == I_C_OpenSession;
}

static void pause_us(uint64_t us) {
	struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
	while (nanosleep(&t, &t) != 0)
		;
}

static uint64_t mix(uint64_t x) { /* splitmix64 */
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* due decides, and counts, whether the rule strikes this call. */
static int due(struct rule *r) {
	uint64_t n = atomic_fetch_add(&r->seen, 1);
	if (n < r->after || (r->chance && mix(r->seed ^ mix(n)) > r->chance))
		return 0;
	uint64_t h = atomic_load(&r->hits);
	do {
		if (r->times && h >= r->times)
			return 0;
	} while (!atomic_compare_exchange_weak(&r->hits, &h, h + 1));
	return 1;
}

static void close_all(void) { /* under the gate */
	W slots[64], n = 64;
	W list[] = {1, (W)slots, (W)&n};
	if (forward(I_C_GetSlotList, list) != 0)
		return;
	for (W i = 0; i < n; i++)
		forward(I_C_CloseAllSessions, &slots[i]);
}

static int *volatile nowhere;

static void die(uint32_t action) {
	switch (action) {
	case ABORT:
		abort();
	case SEGV:
		*nowhere = 1;
		break;
	default:
		kill(getpid(), SIGKILL);
		pause();
	}
}

/* out is where a call has put bytes; the length is 0 when it only asked for it. */
static unsigned char *out(int i, W *a, W *len) {
	W *n = 0;
	unsigned char *p = 0;
	switch (i) {
	case I_C_Sign: case I_C_Encrypt: case I_C_Decrypt: case I_C_Digest: case I_C_SignRecover: case I_C_EncryptUpdate: case I_C_DecryptUpdate:
		p = (unsigned char *)a[3], n = (W *)a[4];
		break;
	case I_C_SignFinal: case I_C_EncryptFinal: case I_C_DecryptFinal: case I_C_DigestFinal:
		p = (unsigned char *)a[1], n = (W *)a[2];
		break;
	case I_C_GenerateRandom:
		*len = a[2];
		return (unsigned char *)a[1];
	}
	*len = p && n ? *n : 0;
	return p;
}

struct attribute {
	W type;
	void *value;
	W length;
};

static int lies(W *a, uint64_t type, struct attribute **found) {
	struct attribute *t = (struct attribute *)a[2];
	for (W k = 0; k < a[3]; k++)
		if (t[k].type == type && t[k].value && t[k].length && t[k].length != (W)-1) {
			*found = &t[k];
			return 1;
		}
	return 0;
}

/* late does what a rule says after the real call. */
static RV late(struct rule *r, int i, W *a, RV rv) {
	W len = 0;
	unsigned char *p;
	struct attribute *at;
	switch (r->action) {
	case FLIP:
		if (rv == 0 && (p = out(i, a, &len)) && len && due(r)) {
			uint64_t bit = mix(r->seed ^ atomic_load(&r->hits)) % (len * 8);
			p[bit / 8] ^= (unsigned char)(1 << bit % 8);
		}
		return rv;
	case LIE:
		if (rv == 0 && i == I_C_GetAttributeValue && lies(a, r->value, &at) && due(r))
			*(unsigned char *)at->value = (unsigned char)r->extra;
		return rv;
	case HALF:
		if (rv == 0 && i == I_C_GenerateKeyPair && due(r)) {
			W destroy[] = {a[0], *(W *)a[7]};
			forward(I_C_DestroyObject, destroy);
			return (RV)r->value;
		}
		return rv;
	}
	if (!r->late || !due(r))
		return rv;
	if (r->action == RETURN)
		return (RV)r->value;
	die(r->action);
	return rv;
}

/* strike takes sessions or the login away. Who sees it counted knows it done. */
static void strike(struct rule *r, W *a) {
	pthread_rwlock_wrlock(&gate);
	uint64_t n = atomic_load(&r->seen), hits = atomic_load(&r->hits);
	atomic_store(&r->seen, n + 1);
	if (n >= r->after && !(r->times && hits >= r->times) && !(r->chance && mix(r->seed ^ mix(n)) > r->chance)) {
		if (r->action == CLOSE_ALL)
			close_all();
		else
			forward(I_C_Logout, a);
		atomic_store(&r->hits, hits + 1);
	}
	pthread_rwlock_unlock(&gate);
}

/* early does what a rule says before the real call; 1 means that there is none. */
static int early(struct rule *r, int i, W *a, RV *rv) {
	if (r->late || r->action == FLIP || r->action == LIE || r->action == HALF)
		return 0;
	if (r->action == CLOSE_ALL || r->action == LOGOUT) {
		if (in_session(i) && !(r->times && atomic_load(&r->hits) >= r->times))
			strike(r, a);
		return 0;
	}
	if (!due(r))
		return 0;
	switch (r->action) {
	case RETURN:
		*rv = (RV)r->value;
		return 1;
	case DELAY:
		pause_us(r->value);
		return 0;
	case HANG:
		while (atomic_load(&r->active))
			pause_us(1000);
		return 0;
	case LEAK: {
		volatile char *p = malloc(r->value);
		for (uint64_t k = 0; p && k < r->value; k += 4096)
			p[k] = 1;
		return 0;
	}
	default:
		die(r->action);
		return 0;
	}
}

/* absent answers for a token that is away; 1 when it did. */
static int absent(int i, W *a, RV *rv) {
	uint32_t state = atomic_load(&ctl->token);
	if (i == I_C_Initialize && state == 0) {
		away = 0; /* C_Initialize is exclusive by the standard */
		return 0;
	}
	if (state != 0 && !away) {
		pthread_rwlock_wrlock(&gate);
		if (!away && i != I_C_Initialize)
			close_all();
		away = state;
		pthread_rwlock_unlock(&gate);
	}
	if (state == 0 && away != 2) {
		away = 0;
		return 0;
	}
	if (i == I_C_GetSlotList && (a[0] & 0xff)) {
		*(W *)a[2] = 0;
		*rv = 0;
		return 1;
	}
	if (at_token(i)) {
		*rv = CKR_TOKEN_NOT_PRESENT;
		return 1;
	}
	if (in_session(i)) {
		*rv = CKR_DEVICE_REMOVED;
		return 1;
	}
	return 0;
}

static RV call(int i, W *a) {
	if (i == I_C_GetFunctionList) {
		if (a[0])
			*(struct list **)a[0] = fault_list();
		return a[0] ? 0 : 7; /* CKR_ARGUMENTS_BAD */
	}
	if (!ctl && (i != I_C_Initialize || !attach()))
		return i == I_C_Initialize ? CKR_GENERAL_ERROR : CKR_CRYPTOKI_NOT_INITIALIZED;
	atomic_fetch_add(&ctl->calls[i], 1);
	RV rv = 0;
	for (int k = 0; k < RULES; k++) {
		struct rule *r = &ctl->rules[k];
		if (atomic_load(&r->active) && (r->function == 0 || r->function == (uint32_t)i + 1) && early(r, i, a, &rv))
			return rv;
	}
	if (absent(i, a, &rv))
		return rv;
	if (i == I_C_WaitForSlotEvent) /* may wait for ever */
		return forward(i, a);
	pthread_rwlock_rdlock(&gate);
	rv = forward(i, a);
	for (int k = 0; k < RULES; k++) {
		struct rule *r = &ctl->rules[k];
		if (atomic_load(&r->active) && (r->function == 0 || r->function == (uint32_t)i + 1))
			rv = late(r, i, a, rv);
	}
	pthread_rwlock_unlock(&gate);
	return rv;
}

#define P1 W a
#define P2 P1, W b
#define P3 P2, W c
#define P4 P3, W d
#define P5 P4, W e
#define P6 P5, W f
#define P8 P6, W g, W h
#define A1 a
#define A2 A1, b
#define A3 A2, c
#define A4 A3, d
#define A5 A4, e
#define A6 A5, f
#define A8 A6, g, h
#define F(name, n)                     \
	static RV fault_##name(P##n) { \
		W args[] = {A##n};     \
		return call(I_##name, args); \
	}
FUNCTIONS
#undef F

struct list *fault_list(void) {
	static struct list ours = {{2, 40}, {
#define F(name, n) (void *)(uintptr_t)fault_##name,
		FUNCTIONS
#undef F
	}};
	return &ours;
}

__attribute__((visibility("default"))) RV C_GetFunctionList(struct list **l) {
	W args[] = {(W)l};
	return call(I_C_GetFunctionList, args);
}
