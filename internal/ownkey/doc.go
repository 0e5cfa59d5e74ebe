// Package ownkey makes the installation's own keys in the HSM, each once: the first
// key-encryption key and the key that signs the audit log.
//
// Before a key is made its label and CKA_ID are written down, so that a process
// which is killed at any moment leaves nothing on the token that the database can
// not explain. The next Ensure destroys what is there under the label, whole or
// half, when the lease of the dead one is over, and makes the key anew: nothing was
// sealed or signed with it, since it is used from READY on only. Of several at
// once one makes the key and the others wait for it.
//
// A key that is recorded as READY and is not on the token, or is there under
// another id, is ErrKey: the token is another one, or an old copy. A new key in
// its place would open nothing that the old one sealed, and hide that. A key from
// before there were records is recorded as it is found.
//
// States of a key: MAKING -> READY. Owns: table own_key. Callers: cmd. A Maker is
// safe for concurrent use.
package ownkey
