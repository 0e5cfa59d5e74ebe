// Package worker is the child process that holds the PKCS#11 module: it opens the
// in-process engine of package hsm and does what its parent asks over an inherited
// socket, in the language of package wire.
//
// # Promises
//
// The worker's role is set when it is started and by nothing afterwards: RoleUse
// uses keys, RoleManage also makes and destroys those that a running service
// makes by itself (signer, master, OCSP and CRL keys), RoleCeremony all.
//
// It confines itself before it loads the module: no core dump, no trace by other
// processes, no new privileges, no new program, no new process, and, unless the
// configuration grants it, no network. What the machine does not let it have is
// named to the parent, which logs it.
//
// The PIN comes by the socket, for one C_Login each, into locked memory that is
// overwritten when C_Login has returned. It is in no argument, environment, file,
// log or error.
//
// It ends when its parent does, in any way: the socket's end is the worker's end.
// A login that is under way ends before, within five seconds: SoftHSM's token may
// not survive one that is cut off. A terminal's interrupt does not reach it: the
// parent drains first.
//
// # States
//
// starting (until the token is open), serving, ending. Owns: the module in its
// process. Callers: the hidden verb of cmd/signet, and the TestMain of tests that
// start workers; imports hsm, wire and internal/secret.
package worker
