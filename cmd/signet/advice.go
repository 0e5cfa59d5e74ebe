package main

import (
	"errors"

	"github.com/signet-hsm/signet/hsm"
)

// operatorMustAct are the failures that another start can not mend and may make
// worse: each start costs a PIN attempt. They are exit code 3.
var operatorMustAct = []error{hsm.ErrPIN, hsm.ErrTemplate, hsm.ErrSeparation, hsm.ErrAmbiguous, hsm.ErrConfig}

// advice says what an operator can do about a failure of the HSM; "" when the
// error says it all.
func advice(err error) string {
	for _, a := range []struct {
		is   error
		hint string
	}{
		{hsm.ErrPIN, "the PIN was tried once and will not be tried again by this process. Compare hsm.pin with the token's PIN before the next start: " +
			"tokens lock after a few refusals (exit code 3)"},
		{hsm.ErrSeparation, "this module lets keys do more than they may, so none of its keys is safe. Update or replace it; nothing was served (exit code 3)"},
		{hsm.ErrTemplate, "a key was made or changed by something else than signet. Find out what it was used for, then destroy it and make it anew by a ceremony; " +
			"nothing was served (exit code 3)"},
		{hsm.ErrAmbiguous, "two tokens or keys claim one name. Name the token by hsm.token_serial, or destroy the key that does not belong (exit code 3)"},
		{hsm.ErrTokenNotFound, "is the HSM switched on and reachable, and are hsm.token_label and hsm.token_serial those of the token that this installation was made with? " +
			"A token with the right label and another serial was initialised anew: its keys are gone, restore them from their backup"},
		{hsm.ErrFull, "nothing was left half made and the keys that are there go on. Get the token more room, or destroy keys that nothing needs any more " +
			"(`ceremony inventory` lists them), then give the command again"},
		{hsm.ErrConfig, "look at the hsm section of the configuration: module must be the path of a PKCS#11 library for this machine (exit code 3)"},
	} {
		if errors.Is(err, a.is) {
			return a.hint
		}
	}
	return ""
}
