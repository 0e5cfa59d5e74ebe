// Command ceremony carries out key ceremonies on a machine of its own: from one
// reviewed plan, on an HSM, with a transcript that all who were there sign. It
// opens no database and no network connection, and listens nowhere; what it reads
// are the plan, the token's configuration, and people's key files.
//
// Exit status: 0 done; 1 a step failed after the ceremony had begun, or something
// unforeseen; 2 the command line, plan or configuration is wrong; 3 the token's
// state refuses (label taken, key missing or another, token not the plan's) or an
// output exists; 4 a PIN was refused, once; 5 the HSM or token is not reachable or
// can not do it; 6 a transcript, sealed secret or backup is not intact; 7 shares or
// people are missing or wrong.
//
// docs/ceremonies.md is the manual.
package main
