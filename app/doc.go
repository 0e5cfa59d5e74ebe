// Package app keeps PowerAuth applications: their roles, the key and secret that
// a version of the mobile app carries, and the master key pair in the HSM.
//
// States: CREATING (the intent is written, the master key may or may not exist
// in the HSM yet) then READY. Only READY applications are ever returned. Create
// writes the intent, makes the key, and turns the row READY together with the
// first version and the audit event; repeated after a crash it finds its own
// intent and adopts the key with the intent's id. A key of that name under
// another id is somebody else's and refuses.
//
// The master key signs activation codes and offline QR codes and agrees on
// application-scope encryption keys; it never leaves the HSM. What the row says
// of its public half is compared with the HSM at every use, so that a restored
// database and a swapped token are noticed before anything is signed.
//
// RotateMaster makes the next generation of the master key, by an intent of its
// own (CREATING, then READY; what a crash left of it is destroyed, under a new id,
// by the next call; rows of older versions may be FAILED). The newest READY one
// signs; a version carries the generation that was newest when it was made, and
// MasterOf finds it, so that installed phones keep working until their version is
// called back. Every change is one statement with its audit event.
//
// ByKey and Roles answer from a bounded cache whose entries live for a few
// seconds (also "no such key", so that a flood of unknown keys costs one query
// each TTL): a change elsewhere is seen after that time, one made here at once.
//
// Owns: tables app, app_version, app_master; HSM keys of role "master". Callers: registration
// and above, and the administration endpoints. Safe for concurrent use. Source:
// seed 004 administration (PA-ADM-01..05), PowerAuth 3.x application keys.
package app
