// Package token makes and verifies the tokens of PowerAuth: a secret that a
// device was given once, over a signed and encrypted request, and answers
// challenges with where a signature would move the counter too often (lists,
// push registration).
//
// A token lives from Create to Remove and is good while its registration is
// ACTIVE. It has the factors of the signature that asked for it.
//
// Promises. A header is accepted once, by whatever node and for as long as its
// timestamp is accepted at all: the digest is compared first, in constant time,
// and then one statement checks that token and registration are alive, keeps the
// nonce, and writes the audit event, or does none of it. Headers that come while one
// is under way share the next and its commit (internal/group), each with its own
// outcome; of two equal ones in it one is refused. Nobody without the secret
// can make a row. (The reference remembers a nonce for a minute and accepts the
// digest for two hours.) The window is five minutes either way for 3.2 and 3.3,
// whose digest covers the version, and two hours for 3.0 and 3.1.
//
// An unknown token, one of another tenant and one of an application that is not
// the caller's are one answer, which a wrong digest gets as well; for an unknown
// one nothing is written. A database that does not answer is
// fault.ErrUnavailable, never a verdict. When the connection dies in a statement
// its outcome is unknown: the device makes a new header.
//
// Secrets are sealed by package envelope and held unsealed in memory for tokens
// in use, so that a warm verification is one statement. A token that was removed
// through another node is refused at once all the same: the statement looks.
//
// Owns: tables token and token_nonce. Run purges the latter, on any number of
// nodes. Callers: api. Safe for concurrent use. Source: seed 004 (PA-AUTH-02),
// PowerAuth 3.0 to 3.3.
package token
