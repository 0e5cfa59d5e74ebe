package ceremony

import "github.com/signet-hsm/signet/fault"

var (
	// ErrPlan: the plan is not one that can be carried out.
	ErrPlan = fault.New(fault.Invalid, "CEREMONY_PLAN", "the ceremony plan is not valid")
	// ErrOutput: the folder of the outputs exists already, or can not be made.
	ErrOutput = fault.New(fault.Conflict, "CEREMONY_OUTPUT", "the folder for the outputs must be new")
	// ErrLabel: a key of this label exists already.
	ErrLabel = fault.New(fault.Conflict, "CEREMONY_LABEL", "a key with this label exists already: labels are never used twice")
	// ErrKey: a key that is there already can not be used.
	ErrKey = fault.New(fault.Conflict, "CEREMONY_KEY", "a key that the plan uses is not on this token, or not the one that is meant")
	// ErrPeople: the key of a person whom the plan names is not here, or another's is.
	ErrPeople = fault.New(fault.Forbidden, "CEREMONY_PEOPLE", "the people at hand are not those of the plan")
	// ErrToken: the token is not the plan's, or not in a state to begin.
	ErrToken = fault.New(fault.Conflict, "CEREMONY_TOKEN", "the token is not the one of the plan, or not ready")
	// ErrBackup: a backup that is damaged or not one.
	ErrBackup = fault.New(fault.Invalid, "CEREMONY_BACKUP", "not a backup that can be restored")
	// ErrStep: a step failed after the ceremony had begun; the transcript tells.
	ErrStep = fault.New(fault.Internal, "CEREMONY_STEP", "the ceremony failed and left what its transcript lists; mend the cause and resume it")
	// ErrTranscript: a transcript that was changed, cut or never finished.
	ErrTranscript = fault.New(fault.Invalid, "CEREMONY_TRANSCRIPT", "the transcript is not intact")
)
