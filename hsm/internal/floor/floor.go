package floor

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "../cryptoki/cryptoki.h"

typedef ck_ulong (*begin_fn)(ck_ulong, ck_mechanism *, ck_ulong);
typedef ck_ulong (*one_fn)(ck_ulong, ck_byte *, ck_ulong, ck_byte *, ck_ulong *);
typedef ck_ulong (*random_fn)(ck_ulong, ck_byte *, ck_ulong);

static ck_functions *functions_of(const char *path) {
	void *h = dlopen(path, RTLD_LAZY);
	ck_functions *f = NULL;
	if (h == NULL) return NULL;
	ck_ulong (*list)(ck_functions **) = (ck_ulong (*)(ck_functions **))dlsym(h, "C_GetFunctionList");
	return list != NULL && list(&f) == 0 ? f : NULL;
}

static ck_ulong sign_loop(ck_functions *f, ck_ulong session, ck_ulong key, ck_ulong mech, ck_ulong in_len, long n) {
	ck_byte in[256] = {1}, out[1024];
	ck_mechanism m = {mech, NULL, 0};
	for (long i = 0; i < n; i++) {
		ck_ulong len = sizeof out, rv;
		if ((rv = ((begin_fn)f->function[CK_SIGN_INIT])(session, &m, key)) != 0) return rv;
		if ((rv = ((one_fn)f->function[CK_SIGN_INIT + 1])(session, in, in_len, out, &len)) != 0) return rv;
	}
	return 0;
}

static ck_ulong seal_loop(ck_functions *f, ck_ulong session, ck_ulong key, ck_ulong in_len, long n) {
	ck_byte in[256] = {1}, out[1024], iv[12], aad[16] = {2};
	ck_gcm_params p = {iv, 12, 96, aad, sizeof aad, 128};
	ck_mechanism m = {0x1087, &p, sizeof p};
	for (long i = 0; i < n; i++) {
		ck_ulong len = sizeof out, rv;
		if ((rv = ((random_fn)f->function[CK_GENERATE_RANDOM])(session, iv, 12)) != 0) return rv;
		if ((rv = ((begin_fn)f->function[CK_ENCRYPT_INIT])(session, &m, key)) != 0) return rv;
		if ((rv = ((one_fn)f->function[CK_ENCRYPT_INIT + 1])(session, in, in_len, out, &len)) != 0) return rv;
	}
	return 0;
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Module is a library that is loaded and initialised by somebody else.
type Module struct{ f *C.ck_functions }

// Open finds it.
func Open(path string) (Module, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	m := Module{C.functions_of(name)}
	if m.f == nil {
		return m, fmt.Errorf("floor: %s does not load", path)
	}
	return m, nil
}

// Sign makes n signatures or MACs over inLen bytes (at most 256).
func (m Module) Sign(session, key, mechanism uint, inLen, n int) error {
	return code(C.sign_loop(m.f, C.ck_ulong(session), C.ck_ulong(key), C.ck_ulong(mechanism), C.ck_ulong(inLen), C.long(n)))
}

// Seal seals inLen bytes (at most 256) with AES-GCM n times, each under a new nonce
// of the module.
func (m Module) Seal(session, key uint, inLen, n int) error {
	return code(C.seal_loop(m.f, C.ck_ulong(session), C.ck_ulong(key), C.ck_ulong(inLen), C.long(n)))
}

func code(rv C.ck_ulong) error {
	if rv != 0 {
		return fmt.Errorf("floor: return value 0x%x", uint64(rv))
	}
	return nil
}
