package hsm

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
)

// class says what a PKCS#11 return value means for the session, the login and
// the token. It is decided by this table alone, never by error texts.
type class uint8

const (
	classNone    class = iota
	classSession       // this session is finished: drop it, open another, retry once
	classLogin         // the login or the handles are gone: log in once for all, find again, retry once
	classToken         // the token or the module is gone, or a login was lost in mid-call: see heal
	classPIN           // the PIN is refused: stop for good
	classRefused       // the call itself is wrong; the same answer will come again
	classMissing       // the module has no such mechanism or curve
	classOther         // anything else
)

var classNames = [...]string{"ok", "session", "login", "token", "pin", "refused", "unsupported", "other"}

func (c class) String() string { return classNames[c] }

// heals reports whether one heal and one retry are worth it; for classToken only
// when the heal finds that the login had been lost.
func (c class) heals() bool { return c == classSession || c == classLogin }

// Every return value of PKCS#11 2.40 stands here, those that never come from the
// calls we make included. Values that miekg/pkcs11 does not name are given by number.
var classes = map[p11.Error]class{
	p11.CKR_SESSION_HANDLE_INVALID:    classSession,
	p11.CKR_SESSION_CLOSED:            classSession,
	p11.CKR_OPERATION_ACTIVE:          classSession, // left by a call that failed half way
	p11.CKR_OPERATION_NOT_INITIALIZED: classSession,
	p11.CKR_BUFFER_TOO_SMALL:          classSession, // the operation stays active
	p11.CKR_FUNCTION_CANCELED:         classSession,
	0x202:                             classSession, // CKR_OPERATION_CANCEL_FAILED, 3.0

	p11.CKR_CANCEL:                         classOther,
	p11.CKR_HOST_MEMORY:                    classOther,
	p11.CKR_NO_EVENT:                       classOther,
	p11.CKR_NEED_TO_CREATE_THREADS:         classOther,
	p11.CKR_RANDOM_NO_RNG:                  classOther, // never replaced by another source
	p11.CKR_SESSION_COUNT:                  classOther, // the token is out of sessions: load, not loss
	p11.CKR_SESSION_EXISTS:                 classOther,
	p11.CKR_SESSION_READ_ONLY_EXISTS:       classOther,
	p11.CKR_SESSION_READ_WRITE_SO_EXISTS:   classOther,
	p11.CKR_USER_ALREADY_LOGGED_IN:         classOther, // a good answer where we log in
	p11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: classOther,
	p11.CKR_USER_TOO_MANY_TYPES:            classOther,
	p11.CKR_CRYPTOKI_ALREADY_INITIALIZED:   classOther,
	ckrTokenResourceExceeded:               classOther,

	p11.CKR_USER_NOT_LOGGED_IN:    classLogin,
	p11.CKR_OBJECT_HANDLE_INVALID: classLogin, // logout kills every handle of a private object
	p11.CKR_KEY_HANDLE_INVALID:    classLogin,

	p11.CKR_DEVICE_ERROR:             classToken,
	p11.CKR_DEVICE_MEMORY:            classToken,
	p11.CKR_DEVICE_REMOVED:           classToken,
	p11.CKR_TOKEN_NOT_PRESENT:        classToken,
	p11.CKR_TOKEN_NOT_RECOGNIZED:     classToken,
	p11.CKR_SLOT_ID_INVALID:          classToken,
	p11.CKR_GENERAL_ERROR:            classToken, // SoftHSM's answer to a call that a logout overtook
	p11.CKR_FUNCTION_FAILED:          classToken,
	p11.CKR_CRYPTOKI_NOT_INITIALIZED: classToken,
	p11.CKR_CANT_LOCK:                classToken,
	p11.CKR_MUTEX_BAD:                classToken,
	p11.CKR_MUTEX_NOT_LOCKED:         classToken,

	p11.CKR_PIN_INCORRECT:            classPIN,
	p11.CKR_PIN_INVALID:              classPIN,
	p11.CKR_PIN_LEN_RANGE:            classPIN,
	p11.CKR_PIN_EXPIRED:              classPIN,
	p11.CKR_PIN_LOCKED:               classPIN,
	p11.CKR_USER_PIN_NOT_INITIALIZED: classPIN,
	p11.CKR_NEW_PIN_MODE:             classPIN,
	p11.CKR_NEXT_OTP:                 classPIN,

	p11.CKR_ARGUMENTS_BAD:              classRefused,
	p11.CKR_ATTRIBUTE_READ_ONLY:        classRefused,
	p11.CKR_ATTRIBUTE_SENSITIVE:        classRefused,
	p11.CKR_ATTRIBUTE_TYPE_INVALID:     classRefused,
	p11.CKR_ATTRIBUTE_VALUE_INVALID:    classRefused,
	p11.CKR_ACTION_PROHIBITED:          classRefused,
	p11.CKR_DATA_INVALID:               classRefused,
	p11.CKR_DATA_LEN_RANGE:             classRefused,
	p11.CKR_ENCRYPTED_DATA_INVALID:     classRefused,
	p11.CKR_ENCRYPTED_DATA_LEN_RANGE:   classRefused,
	p11.CKR_KEY_SIZE_RANGE:             classRefused,
	p11.CKR_KEY_TYPE_INCONSISTENT:      classRefused,
	p11.CKR_KEY_FUNCTION_NOT_PERMITTED: classRefused,
	p11.CKR_KEY_NOT_WRAPPABLE:          classRefused,
	p11.CKR_KEY_UNEXTRACTABLE:          classRefused,
	p11.CKR_MECHANISM_PARAM_INVALID:    classRefused,
	p11.CKR_TEMPLATE_INCOMPLETE:        classRefused,
	p11.CKR_TEMPLATE_INCONSISTENT:      classRefused,
	p11.CKR_TOKEN_WRITE_PROTECTED:      classRefused,

	p11.CKR_SESSION_READ_ONLY:                classRefused,
	p11.CKR_SESSION_PARALLEL_NOT_SUPPORTED:   classRefused,
	p11.CKR_FUNCTION_NOT_PARALLEL:            classRefused,
	p11.CKR_FUNCTION_REJECTED:                classRefused,
	p11.CKR_KEY_NOT_NEEDED:                   classRefused,
	p11.CKR_KEY_CHANGED:                      classRefused,
	p11.CKR_KEY_NEEDED:                       classRefused,
	p11.CKR_KEY_INDIGESTIBLE:                 classRefused,
	p11.CKR_SIGNATURE_INVALID:                classRefused,
	p11.CKR_SIGNATURE_LEN_RANGE:              classRefused,
	p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID:    classRefused,
	p11.CKR_UNWRAPPING_KEY_SIZE_RANGE:        classRefused,
	p11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: classRefused,
	p11.CKR_USER_TYPE_INVALID:                classRefused,
	p11.CKR_WRAPPED_KEY_INVALID:              classRefused,
	p11.CKR_WRAPPED_KEY_LEN_RANGE:            classRefused,
	p11.CKR_WRAPPING_KEY_HANDLE_INVALID:      classRefused,
	p11.CKR_WRAPPING_KEY_SIZE_RANGE:          classRefused,
	p11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT:   classRefused,
	p11.CKR_SAVED_STATE_INVALID:              classRefused,
	p11.CKR_INFORMATION_SENSITIVE:            classRefused,
	p11.CKR_STATE_UNSAVEABLE:                 classRefused,

	p11.CKR_MECHANISM_INVALID:         classMissing,
	p11.CKR_FUNCTION_NOT_SUPPORTED:    classMissing,
	p11.CKR_DOMAIN_PARAMS_INVALID:     classMissing,
	p11.CKR_RANDOM_SEED_NOT_SUPPORTED: classMissing,
	0x140:                             classMissing, // CKR_CURVE_NOT_SUPPORTED
}

// ckrTokenResourceExceeded is CKR_TOKEN_RESOURCE_EXCEEDED of PKCS#11 3.0.
const ckrTokenResourceExceeded = 0x201

// errEpoch stands for a call that succeeded with a handle of a login that ended
// meanwhile: on a module that reuses handle numbers it may have used another key.
var errEpoch = errors.New("the login changed during the call")

func classify(err error) class {
	if err == nil {
		return classNone
	}
	if errors.Is(err, errEpoch) {
		return classLogin
	}
	var rv p11.Error
	if !errors.As(err, &rv) {
		return classOther
	}
	if c, ok := classes[rv]; ok {
		return c
	}
	return classOther
}

// isReturnValue reports whether the module itself answered with an error.
func isReturnValue(err error) bool {
	if err == nil {
		return false // before rv is made: it would be an allocation
	}
	var rv p11.Error
	return errors.As(err, &rv)
}

// wrap gives an error from the module the sentinel of its class. Errors that
// carry one already only gain the context.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if fault.Of(err) != nil {
		return fmt.Errorf("hsm: %s: %w", what, err)
	}
	sentinel := fault.ErrUnavailable
	switch classify(err) {
	case classPIN:
		sentinel = ErrPIN
	case classRefused:
		sentinel = ErrRefused
	case classMissing:
		sentinel = ErrUnsupported
	}
	return fmt.Errorf("hsm: %s: %w: %w", what, sentinel, err)
}

// outcome is the metric label of an operation's end.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	}
	return classify(err).String()
}
