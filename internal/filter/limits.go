package filter

const (
	maxLength = 4096 // characters of one filter (the contract's maxLength)
	maxDepth  = 32   // brackets within brackets
	maxTerms  = 200  // values compared with, over all conditions of one filter
	maxFolded = 64   // letters beyond ASCII that one [i] folds: each costs a look per character of each row
	maxEcho   = 32   // characters of a property name that an error repeats
)
