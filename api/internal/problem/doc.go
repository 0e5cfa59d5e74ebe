// Package problem finds the row of an error in a dialect's table. Each dialect
// has its own rows; which row counts is decided here, once, so that they can not
// differ in it. No state; callers: the dialects in api/.
package problem
