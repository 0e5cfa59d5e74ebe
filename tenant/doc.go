// Package tenant names the customers of one installation and keeps them apart.
//
// A tenant is the realm of the identity provider (seed 001: "the tenant name,
// equal to the realm name in IDP"). ID is a type of its own, made only by Parse,
// so that no other string can be passed where a tenant is meant; it is the
// second parameter of every domain method and leads every primary and foreign
// key. System is the one tenant that Parse never returns: it owns what belongs
// to the installation itself (the credential pepper, the issuer CA).
//
// States: a tenant exists or it does not. Owns: table tenant. Callers: all;
// imports nothing of signet's but fault. Registry is safe for concurrent use.
package tenant
