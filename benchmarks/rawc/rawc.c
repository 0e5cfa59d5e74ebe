/*
 * rawc is the roof of what a PKCS#11 module gives: C_SignInit and C_Sign (or the
 * two calls of AES-GCM) in a loop, from threads that do nothing else. It prints
 * one line of Go's benchmark format.
 *
 *   rawc NAME OP TOKEN PINFILE KEY THREADS COPY MILLISECONDS MODULE...
 *
 * OP is P-256, P-384, RSA-3072, Ed25519, HMAC or GCM; KEY the label of the key;
 * COPY 1 works on a session object made with C_CopyObject. With several modules
 * (copies of one file, so that each has its own state) the threads are dealt out
 * to them in turn. Each thread has a session of its own. The module finds its
 * configuration in the environment, as always.
 *
 * The few types of PKCS#11 v2.40 that are needed stand here, so that no header
 * has to be installed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef unsigned char byte;

struct attribute { ulong_t type; void *value; ulong_t len; };
struct mechanism { ulong_t type; void *param; ulong_t len; };
struct gcm { byte *iv; ulong_t iv_len, iv_bits; byte *aad; ulong_t aad_len, tag_bits; };
struct init_args { void *create, *destroy, *lock, *unlock; ulong_t flags; void *reserved; };

enum { CLASS = 0, TOKEN = 1, LABEL = 3, SECRET = 4, PRIVATE = 3, SERIAL_SESSION = 4, RW = 2, OS_LOCKING = 2, USER = 1 };

struct module {
	ulong_t (*open)(ulong_t, ulong_t, void *, void *, ulong_t *);
	ulong_t (*sign_init)(ulong_t, struct mechanism *, ulong_t);
	ulong_t (*sign)(ulong_t, byte *, ulong_t, byte *, ulong_t *);
	ulong_t (*encrypt_init)(ulong_t, struct mechanism *, ulong_t);
	ulong_t (*encrypt)(ulong_t, byte *, ulong_t, byte *, ulong_t *);
	ulong_t (*copy)(ulong_t, ulong_t, struct attribute *, ulong_t, ulong_t *);
	ulong_t slot, key;
};

static const char *op;
static int use_copy;
static atomic_int stop, ready, begin;
static byte input[64];
static ulong_t input_len;

static void fail(const char *what, ulong_t rv)
{
	fprintf(stderr, "rawc: %s: 0x%lx\n", what, rv);
	exit(1);
}

static void *symbol(void *lib, const char *name)
{
	void *f = dlsym(lib, name);
	if (f == NULL)
		fail(dlerror(), 0);
	return f;
}

static void must(ulong_t rv, const char *what)
{
	if (rv != 0)
		fail(what, rv);
}

static void load(struct module *m, const char *path, const char *token, const char *pin, const char *label)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL)
		fail(dlerror(), 0);
	ulong_t (*initialize)(void *) = symbol(lib, "C_Initialize");
	ulong_t (*slots)(byte, ulong_t *, ulong_t *) = symbol(lib, "C_GetSlotList");
	ulong_t (*token_info)(ulong_t, void *) = symbol(lib, "C_GetTokenInfo");
	ulong_t (*login)(ulong_t, ulong_t, const char *, ulong_t) = symbol(lib, "C_Login");
	ulong_t (*find_init)(ulong_t, struct attribute *, ulong_t) = symbol(lib, "C_FindObjectsInit");
	ulong_t (*find)(ulong_t, ulong_t *, ulong_t, ulong_t *) = symbol(lib, "C_FindObjects");
	ulong_t (*find_final)(ulong_t) = symbol(lib, "C_FindObjectsFinal");
	m->open = symbol(lib, "C_OpenSession");
	m->sign_init = symbol(lib, "C_SignInit");
	m->sign = symbol(lib, "C_Sign");
	m->encrypt_init = symbol(lib, "C_EncryptInit");
	m->encrypt = symbol(lib, "C_Encrypt");
	m->copy = symbol(lib, "C_CopyObject");

	struct init_args args = {.flags = OS_LOCKING};
	must(initialize(&args), "C_Initialize");
	ulong_t ids[64], n = 64;
	must(slots(1, ids, &n), "C_GetSlotList");
	char want[32], info[1024];
	memset(want, ' ', sizeof want);
	memcpy(want, token, strlen(token) < 32 ? strlen(token) : 32);
	ulong_t i;
	for (i = 0; i < n; i++) {
		must(token_info(ids[i], info), "C_GetTokenInfo");
		if (memcmp(info, want, 32) == 0)
			break;
	}
	if (i == n)
		fail("no token of this label", 0);
	m->slot = ids[i];
	ulong_t s; /* stays open and keeps the login */
	must(m->open(m->slot, SERIAL_SESSION | RW, NULL, NULL, &s), "C_OpenSession");
	must(login(s, USER, pin, strlen(pin)), "C_Login");
	int secret = strcmp(op, "HMAC") == 0 || strcmp(op, "GCM") == 0;
	ulong_t class = secret ? SECRET : PRIVATE, found = 0;
	struct attribute t[] = {{CLASS, &class, sizeof class}, {LABEL, (void *)label, strlen(label)}};
	must(find_init(s, t, 2), "C_FindObjectsInit");
	must(find(s, &m->key, 1, &found), "C_FindObjects");
	must(find_final(s), "C_FindObjectsFinal");
	if (found != 1)
		fail("no key of this label", 0);
}

struct thread {
	pthread_t id;
	struct module *m;
	long ops;
};

static void once(struct module *m, ulong_t s, ulong_t key, struct mechanism *mech, int gcm)
{
	byte out[1024];
	ulong_t len = sizeof out;
	if (gcm) {
		must(m->encrypt_init(s, mech, key), "C_EncryptInit");
		must(m->encrypt(s, input, input_len, out, &len), "C_Encrypt");
		return;
	}
	must(m->sign_init(s, mech, key), "C_SignInit");
	must(m->sign(s, input, input_len, out, &len), "C_Sign");
}

static void *work(void *arg)
{
	struct thread *t = arg;
	struct module *m = t->m;
	ulong_t s, key = m->key;
	must(m->open(m->slot, SERIAL_SESSION | RW, NULL, NULL, &s), "C_OpenSession");
	if (use_copy) {
		byte no = 0;
		struct attribute a = {TOKEN, &no, 1};
		must(m->copy(s, m->key, &a, 1, &key), "C_CopyObject");
	}
	byte iv[12] = {1}, aad[7] = "alpha|1";
	struct gcm gcm = {iv, 12, 96, aad, 7, 128};
	struct mechanism mech = {0x1041, NULL, 0}; /* CKM_ECDSA */
	int is_gcm = 0;
	if (strcmp(op, "RSA-3072") == 0)
		mech.type = 0x1; /* CKM_RSA_PKCS */
	else if (strcmp(op, "Ed25519") == 0)
		mech.type = 0x1057; /* CKM_EDDSA */
	else if (strcmp(op, "HMAC") == 0)
		mech.type = 0x251; /* CKM_SHA256_HMAC */
	else if (strcmp(op, "GCM") == 0) {
		is_gcm = 1;
		mech = (struct mechanism){0x1087, &gcm, sizeof gcm}; /* CKM_AES_GCM */
	}
	once(m, s, key, &mech, is_gcm);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&begin))
		usleep(200);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		once(m, s, key, &mech, is_gcm);
		t->ops++;
	}
	return NULL;
}

static double seconds(struct timespec t) { return t.tv_sec + t.tv_nsec / 1e9; }

static double cpu(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
	if (argc < 10) {
		fprintf(stderr, "usage: rawc NAME OP TOKEN PINFILE KEY THREADS COPY MILLISECONDS MODULE...\n");
		return 2;
	}
	op = argv[2];
	int threads = atoi(argv[6]), modules = argc - 9;
	use_copy = atoi(argv[7]);
	long ms = atol(argv[8]);
	char pin[256] = {0};
	FILE *f = fopen(argv[4], "r");
	if (f == NULL || fread(pin, 1, sizeof pin - 1, f) == 0)
		fail("the PIN file can not be read", 0);
	fclose(f);
	/* What a caller of ours has: a digest, its DigestInfo for RSA, a message. */
	input_len = strcmp(op, "P-384") == 0 ? 48 : strcmp(op, "HMAC") == 0 ? 64 : 32;
	if (strcmp(op, "RSA-3072") == 0) {
		static const byte info[19] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
		memcpy(input, info, sizeof info);
		input_len = 51;
	}
	struct module m[64];
	struct thread t[256] = {0};
	if (threads < 1 || threads > 256 || modules > 64 || ms < 1)
		fail("numbers out of range", 0);
	for (int i = 0; i < modules; i++)
		load(&m[i], argv[9 + i], argv[3], pin, argv[5]);
	for (int i = 0; i < threads; i++) {
		t[i].m = &m[i % modules];
		if (pthread_create(&t[i].id, NULL, work, &t[i]) != 0)
			fail("pthread_create", 0);
	}
	while (atomic_load(&ready) < threads)
		usleep(200);
	struct timespec from, to;
	double used = cpu();
	clock_gettime(CLOCK_MONOTONIC, &from);
	atomic_store(&begin, 1);
	usleep(ms * 1000);
	atomic_store(&stop, 1);
	long ops = 0;
	for (int i = 0; i < threads; i++) {
		pthread_join(t[i].id, NULL);
		ops += t[i].ops;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	used = cpu() - used;
	if (ops == 0)
		fail("no operation ended", 0);
	printf("Benchmark%s-%ld\t%ld\t%.1f ns/op\t%.1f cpu-ns/op\n", argv[1], sysconf(_SC_NPROCESSORS_ONLN), ops,
	       (seconds(to) - seconds(from)) * 1e9 / ops, used * 1e9 / ops);
	fflush(stdout);
	_exit(0); /* the modules' own cleaning up is not ours to wait for */
}
