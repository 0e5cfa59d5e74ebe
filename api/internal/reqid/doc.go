// Package reqid gives each request an id that stands in its response, its log
// line and, through the context, in what it calls. It changes no outcome. Owns
// nothing; callers: api adapters.
package reqid
