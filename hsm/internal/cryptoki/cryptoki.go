package cryptoki

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include <string.h>
#include "cryptoki.h"

#cgo noescape cryptoki_run
#cgo nocallback cryptoki_run
#cgo noescape cryptoki_seal
#cgo nocallback cryptoki_seal
*/
import "C"

import (
	"fmt"
	"unsafe"

	p11 "github.com/miekg/pkcs11"
)

// NonceLen is the length of a GCM nonce, TagLen that of its tag.
const (
	NonceLen = C.NONCE_LEN
	TagLen   = 16
)

// Module is a loaded library.
type Module struct {
	handle    unsafe.Pointer
	functions *C.ck_functions
}

// Open finds the library at path, which is loaded already.
func Open(path string) (*Module, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	m := &Module{}
	if m.handle = C.cryptoki_open(name, &m.functions); m.handle == nil {
		return nil, fmt.Errorf("cryptoki: %s is not a PKCS#11 module that loads here", path)
	}
	return m, nil
}

// Close gives the handle back. No Job may run any more.
func (m *Module) Close() {
	if m.handle != nil {
		C.cryptoki_close(m.handle)
		m.handle = nil
	}
}

// Job is the memory of one call. It is used by one goroutine at a time.
type Job struct{ c *C.job }

// NewJob makes a Job with room for what is common.
func NewJob() *Job {
	j := &Job{c: (*C.job)(C.calloc(1, C.sizeof_job))}
	grow(&j.c.in, &j.c.in_cap, 1024)
	grow(&j.c.aad, &j.c.aad_cap, 256)
	grow(&j.c.out, &j.c.out_cap, 1024)
	return j
}

// Free wipes the memory and gives it back.
func (j *Job) Free() {
	if j.c == nil {
		return
	}
	j.Wipe()
	for _, p := range []*C.ck_byte{j.c.in, j.c.aad, j.c.out} {
		C.free(unsafe.Pointer(p))
	}
	C.free(unsafe.Pointer(j.c))
	j.c = nil
}

// Wipe clears the last input and output.
func (j *Job) Wipe() {
	clear(view(j.c.in, j.c.in_len))
	clear(view(j.c.out, min(j.c.out_len, j.c.out_cap)))
	j.c.in_len, j.c.out_len = 0, 0
}

// Sign makes a signature or MAC with C_SignInit and C_Sign. The result is the
// Job's and ends with its next use.
func (m *Module) Sign(j *Job, s p11.SessionHandle, key p11.ObjectHandle, mechanism uint) ([]byte, error) {
	j.begin(m, s, key, mechanism)
	j.c.mechanism.parameter, j.c.mechanism.parameter_len = nil, 0
	return j.finish(C.cryptoki_run(j.c, C.CK_SIGN_INIT), C.CK_SIGN_INIT)
}

// SignPSS is Sign with CKM_RSA_PKCS_PSS.
func (m *Module) SignPSS(j *Job, s p11.SessionHandle, key p11.ObjectHandle, hash, mgf, salt uint) ([]byte, error) {
	j.begin(m, s, key, p11.CKM_RSA_PKCS_PSS)
	*j.pss() = C.ck_pss_params{hash: C.ck_ulong(hash), mgf: C.ck_ulong(mgf), salt_len: C.ck_ulong(salt)}
	j.c.mechanism.parameter, j.c.mechanism.parameter_len = unsafe.Pointer(&j.c.params), C.sizeof_ck_pss_params
	return j.finish(C.cryptoki_run(j.c, C.CK_SIGN_INIT), C.CK_SIGN_INIT)
}

// Seal encrypts the input with AES-GCM under a nonce that the module draws; a
// module that takes one of its own writes it back. It returns nonce and
// ciphertext with tag, both the Job's.
func (m *Module) Seal(j *Job, s p11.SessionHandle, key p11.ObjectHandle) (nonce, sealed []byte, err error) {
	j.begin(m, s, key, p11.CKM_AES_GCM)
	j.gcm()
	sealed, err = j.finish(C.cryptoki_seal(j.c), C.CK_ENCRYPT_INIT)
	return j.nonce(), sealed, err
}

// Open decrypts the input, ciphertext with tag, with the nonce.
func (m *Module) Open(j *Job, s p11.SessionHandle, key p11.ObjectHandle, nonce []byte) ([]byte, error) {
	j.begin(m, s, key, p11.CKM_AES_GCM)
	copy(j.nonce(), nonce)
	j.gcm()
	return j.finish(C.cryptoki_run(j.c, C.CK_DECRYPT_INIT), C.CK_DECRYPT_INIT)
}

// Put sets the input to the parts, one behind the other.
func (j *Job) Put(parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	grow(&j.c.in, &j.c.in_cap, n)
	grow(&j.c.out, &j.c.out_cap, n+1024) // more than any padding, tag or signature
	in := unsafe.Slice((*byte)(j.c.in), j.c.in_cap)[:0]
	for _, p := range parts {
		in = append(in, p...)
	}
	j.c.in_len = C.ck_ulong(n)
}

// PutAAD sets the associated data.
func (j *Job) PutAAD(aad []byte) {
	grow(&j.c.aad, &j.c.aad_cap, len(aad))
	j.c.aad_len = C.ck_ulong(copy(unsafe.Slice((*byte)(j.c.aad), j.c.aad_cap), aad))
}

// Input returns the input, for those who stand between hsm and a module.
func (j *Job) Input() []byte { return view(j.c.in, j.c.in_len) }

func (j *Job) begin(m *Module, s p11.SessionHandle, key p11.ObjectHandle, mechanism uint) {
	j.c.functions = m.functions
	j.c.session, j.c.key = C.ck_ulong(s), C.ck_ulong(key)
	j.c.mechanism.mechanism = C.ck_ulong(mechanism)
	j.c.begun = 0
}

func (j *Job) pss() *C.ck_pss_params { return (*C.ck_pss_params)(unsafe.Pointer(&j.c.params)) }

func (j *Job) nonce() []byte { return unsafe.Slice((*byte)(&j.c.iv[0]), NonceLen) }

func (j *Job) gcm() {
	*(*C.ck_gcm_params)(unsafe.Pointer(&j.c.params)) = C.ck_gcm_params{
		iv: &j.c.iv[0], iv_len: NonceLen, iv_bits: NonceLen * 8,
		aad: j.c.aad, aad_len: j.c.aad_len, tag_bits: TagLen * 8,
	}
	j.c.mechanism.parameter, j.c.mechanism.parameter_len = unsafe.Pointer(&j.c.params), C.sizeof_ck_gcm_params
}

// finish judges the return value. A module that wants more room says how much,
// and the operation stays active: it is given the room and asked once more.
func (j *Job) finish(rv C.ck_ulong, init C.int) ([]byte, error) {
	if rv == p11.CKR_BUFFER_TOO_SMALL && j.c.begun != 0 && j.c.out_len > j.c.out_cap && j.c.out_len < maxOut {
		grow(&j.c.out, &j.c.out_cap, int(j.c.out_len))
		rv = C.cryptoki_run(j.c, init)
	}
	if rv != 0 {
		return nil, p11.Error(rv)
	}
	if j.c.out_len > j.c.out_cap { // a module that can not count
		return nil, p11.Error(p11.CKR_GENERAL_ERROR)
	}
	return view(j.c.out, j.c.out_len), nil
}

// maxOut bounds what a module can make us allocate.
const maxOut = 1 << 24

// grow makes room for n bytes; what was there is wiped and gone.
func grow(p **C.ck_byte, capacity *C.ck_ulong, n int) {
	if int(*capacity) >= n {
		return
	}
	if *p != nil {
		clear(view(*p, *capacity))
		C.free(unsafe.Pointer(*p))
	}
	*p, *capacity = (*C.ck_byte)(C.malloc(C.size_t(n))), C.ck_ulong(n) // malloc of cgo never fails
}

func view(p *C.ck_byte, n C.ck_ulong) []byte { return unsafe.Slice((*byte)(p), n) }
