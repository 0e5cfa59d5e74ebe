// The part of PKCS#11 that the hot path needs, written from the standard (OASIS
// PKCS#11 v2.40: CK_FUNCTION_LIST, CK_MECHANISM, CK_GCM_PARAMS, CK_RSA_PKCS_PSS_PARAMS).
#ifndef SIGNET_CRYPTOKI_H
#define SIGNET_CRYPTOKI_H

typedef unsigned long ck_ulong;
typedef unsigned char ck_byte;

typedef struct {
	ck_ulong mechanism;
	void *parameter;
	ck_ulong parameter_len;
} ck_mechanism;

typedef struct {
	ck_byte *iv;
	ck_ulong iv_len;
	ck_ulong iv_bits;
	ck_byte *aad;
	ck_ulong aad_len;
	ck_ulong tag_bits;
} ck_gcm_params;

typedef struct {
	ck_ulong hash, mgf, salt_len;
} ck_pss_params;

// ck_functions is CK_FUNCTION_LIST; its order never changes.
typedef struct {
	ck_byte major, minor;
	void *function[68];
} ck_functions;

// Places in the function list.
enum { CK_ENCRYPT_INIT = 29, CK_DECRYPT_INIT = 33, CK_SIGN_INIT = 42, CK_GENERATE_RANDOM = 64 };

enum { NONCE_LEN = 12 };

// job is one call: what it needs before, what it gave after. All memory is C's.
typedef struct {
	ck_functions *functions;
	ck_ulong session, key;
	ck_mechanism mechanism;
	union {
		ck_gcm_params gcm;
		ck_pss_params pss;
	} params;
	ck_byte iv[NONCE_LEN];
	ck_byte *in, *aad, *out;
	ck_ulong in_cap, aad_cap, out_cap;
	ck_ulong in_len, aad_len, out_len;
	int begun; // the init call succeeded: an operation is active in the session
} job;

void *cryptoki_open(const char *path, ck_functions **functions);
void cryptoki_close(void *handle);
ck_ulong cryptoki_run(job *j, int init);
ck_ulong cryptoki_seal(job *j);

#endif
