package ceremony

import "github.com/signet-hsm/signet/fault"

var (
	// ErrPlan: the plan is not one that can be carried out.
	ErrPlan = fault.New(fault.Invalid, "CEREMONY_PLAN", "the ceremony plan is not valid")
	// ErrOutput: the folder of the outputs exists already, or can not be made.
	ErrOutput = fault.New(fault.Conflict, "CEREMONY_OUTPUT", "the folder for the outputs must be new")
	// ErrLabel: a key of this label exists already.
	ErrLabel = fault.New(fault.Conflict, "CEREMONY_LABEL", "a key with this label exists already: labels are never used twice")
	// ErrKey: the existing root's key can not be used.
	ErrKey = fault.New(fault.Conflict, "CEREMONY_KEY", "the existing root's key is not on this token, or not that of its certificate")
	// ErrStep: a step failed after the ceremony had begun; the transcript tells.
	ErrStep = fault.New(fault.Internal, "CEREMONY_STEP", "the ceremony failed and left what its transcript lists")
	// ErrTranscript: a transcript that was changed, cut or never finished.
	ErrTranscript = fault.New(fault.Invalid, "CEREMONY_TRANSCRIPT", "the transcript is not intact")
)
