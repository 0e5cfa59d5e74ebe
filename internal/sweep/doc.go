// Package sweep runs bounded rounds of cleaning up, again and again, for the
// domains that expire or purge rows. Rounds follow one another while there is
// more to do, and else a pause apart that differs from node to node, so that
// nodes started together do not sweep together.
//
// A sweep must be safe on any number of nodes at once, and nothing may depend on
// its having run. States: none. Owns: nothing. Callers: domains.
package sweep
