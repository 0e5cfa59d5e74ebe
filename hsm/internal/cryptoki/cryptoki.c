#include "cryptoki.h"

#include <dlfcn.h>
#include <stddef.h>

void *cryptoki_open(const char *path, ck_functions **functions) {
	void *handle = dlopen(path, RTLD_LAZY);
	if (handle == NULL) {
		return NULL;
	}
	ck_ulong (*list)(ck_functions **) = (ck_ulong (*)(ck_functions **))dlsym(handle, "C_GetFunctionList");
	if (list == NULL || list(functions) != 0) {
		dlclose(handle);
		return NULL;
	}
	return handle;
}

void cryptoki_close(void *handle) { dlclose(handle); }

// cryptoki_run begins the operation whose init call stands at place init of the
// list (unless it is active already) and does it; the call that does it stands
// right behind the init call, for all of encrypt, decrypt and sign.
ck_ulong cryptoki_run(job *j, int init) {
	if (!j->begun) {
		ck_ulong (*begin)(ck_ulong, ck_mechanism *, ck_ulong) =
			(ck_ulong (*)(ck_ulong, ck_mechanism *, ck_ulong))j->functions->function[init];
		ck_ulong rv = begin(j->session, &j->mechanism, j->key);
		if (rv != 0) {
			return rv;
		}
		j->begun = 1;
	}
	ck_ulong (*one)(ck_ulong, ck_byte *, ck_ulong, ck_byte *, ck_ulong *) =
		(ck_ulong (*)(ck_ulong, ck_byte *, ck_ulong, ck_byte *, ck_ulong *))j->functions->function[init + 1];
	j->out_len = j->out_cap;
	return one(j->session, j->in, j->in_len, j->out, &j->out_len);
}

// cryptoki_seal draws the nonce first.
ck_ulong cryptoki_seal(job *j) {
	if (!j->begun) {
		ck_ulong (*random)(ck_ulong, ck_byte *, ck_ulong) =
			(ck_ulong (*)(ck_ulong, ck_byte *, ck_ulong))j->functions->function[CK_GENERATE_RANDOM];
		ck_ulong rv = random(j->session, j->iv, NONCE_LEN);
		if (rv != 0) {
			return rv;
		}
	}
	return cryptoki_run(j, CK_ENCRYPT_INIT);
}
