// Package conf reads configuration files: strict YAML, secrets by reference.
//
// It promises that a file means what it says or is refused: an unknown or
// repeated key, a second document, an anchor, alias, merge key or tag, a value of
// the wrong type and an empty file are errors with line and caret. The excerpt
// ends with the refused word, because what follows may be a password. Keys are
// the struct's yaml tags, in that case; a type with a Validate method is checked
// by it. The struct a package declares, with its comments, is the manual.
//
// A password or PIN does not stand in the file: SecretSource names a file that
// nobody else may read, a descriptor handed over by the parent process, a systemd
// credential, or what to ask for at the terminal. There is no way through the
// argument list or the environment: both are open to other processes, and to
// every child.
//
// States: none. Owns: the descriptors named by a SecretSource, which it drains
// once per process and remembers, as it does answers of a person, until Forget.
// Callers: cmd/signet, cmd/ceremony, ceremony. Safe for concurrent use.
package conf
