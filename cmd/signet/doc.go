// Command signet is the server and its operator verbs.
//
// dev runs everything on one machine and takes a tour of itself; serve is
// production, with check, migrate, ceremony and bootstrap to prepare it. The
// package only wires: configuration, stores, domains, adapters as a straight
// list, then serve and drain. It owns the configuration's shape and the process's
// lifetime, and no logic that a library would want.
//
// Exit codes: 0 good; 1 the work failed; 2 the command line or the
// configuration is wrong and nothing was started; 3 the HSM or a key in it is
// refused (PIN, key rules, module) and an operator must act: starting again mends
// nothing and costs a PIN attempt, so systemd wants RestartPreventExitStatus=3.
package main
