// Package faultmodule is a PKCS#11 module that does harm: a shim in C that
// forwards every call to a real module and, by rules that a test sets while it
// runs, is slow, hangs, crashes, answers any return value, loses sessions, logins
// or its token for real, signs wrongly, lies about attributes and leaks memory.
//
// A Module is a library file of its own with a control file beside it, which the
// shim maps shared. So rules work in whatever process loads the library or a copy
// of it, need no environment, and counters outlive a process that a rule killed.
//
// A rule strikes calls by number (After, Times) and by chance from a seed: the
// same seed strikes the same calls. Note that miekg/pkcs11 calls C_Sign, C_Encrypt
// and C_Decrypt twice, first for the length; the Init functions are called once.
//
// The shim is compiled once per process with cc; without a compiler the test
// fails. Owns: the two files in the test's folder. Callers: tests only.
package faultmodule
