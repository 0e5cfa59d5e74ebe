// Package filter is the filter language of the AST lists (seed 001): text such as
//
//	(name="test t" && id^=a1) or generation in {1, 2, 3}
//
// parsed against a list's own properties and compiled to a WHERE condition.
//
// # Promises
//
// Whatever the text: Parse returns in time linear in its length, and either an
// expression or an *Error that names a column of it. SQL consists of keywords,
// the column expressions of Fields and numbered parameters; no character of the
// text is ever part of it. Match, on the values of a row, and PostgreSQL, on the
// row itself, give the same verdict, whatever the database's own collation; a
// differential fuzz test holds them together.
//
// # Language
//
// A condition is property, operator, value. Operators are = != <> ^= (starts
// with) $= (ends with) *= (contains) > >= < <= like in !in. A value is bare
// (a-z A-Z 0-9 - _ and what the list adds), or quoted by ' " or `; a quote can
// not stand within its own kind. A list of values is {a, "b"}. [i] after the
// value makes the comparison blind to case. Conditions are joined by and, AND, &&
// and or, OR, ||; and binds tighter, brackets change that. In a pattern of like,
// _ is one character and % any number of them; nothing takes that away from them.
//
// What the seed leaves open is decided so:
//
//   - A verdict is true or false, never unknown. = null is true where there is no
//     value. A condition on a missing value is false, but != and !in are true: they
//     are the negations of = and in. null (or NULL, without quotes) goes with =, !=
//     and <> only.
//   - Text is ordered by code points (COLLATE "C"), numbers by value, times as
//     instants. Numbers are decimal; times RFC 3339, which needs quotes for the
//     colons, or a date, which is its midnight in UTC. Numbers and times know no
//     ^= $= *= like.
//   - [i] lowers A-Z on both sides, and each further letter that occurs in the
//     filter's values, by Unicode's simple case folding: that is enough to find
//     what differs in case only, and needs no table in the database.
//
// States: none; an Expr does not change. Owns: nothing. Callers: the domains that
// own the lists; Fields are written by them, never by clients. Pure: no I/O, no
// clock. Safe for concurrent use.
//
// Source: seed 001, filter parameters of signers, certificates, clients and
// properties; inventory "Filter language".
package filter
