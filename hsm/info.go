package hsm

import (
	"context"
	"fmt"
	"strings"
)

// TokenInfo says which token this is, as the module tells it.
type TokenInfo struct {
	Label        string
	Serial       string
	Manufacturer string
	Model        string
	Hardware     string // version, "2.6"
	Firmware     string
	Module       string // path of the PKCS#11 library
}

// Info implements Engine.
func (t *local) Info(ctx context.Context) (TokenInfo, error) {
	_, out, err := t.do(ctx, &call{op: OpInfo, run: func(l *lane) (any, error) {
		i, err := l.inst.mod.ctx.GetTokenInfo(l.inst.slot.id)
		if err != nil {
			return nil, err
		}
		out := TokenInfo{Module: t.config.Module}
		// Fields are padded with blanks to their fixed length.
		out.Label, out.Serial = strings.TrimRight(i.Label, " \x00"), strings.TrimRight(i.SerialNumber, " \x00")
		out.Manufacturer, out.Model = strings.TrimRight(i.ManufacturerID, " \x00"), strings.TrimRight(i.Model, " \x00")
		out.Hardware = fmt.Sprintf("%d.%d", i.HardwareVersion.Major, i.HardwareVersion.Minor)
		out.Firmware = fmt.Sprintf("%d.%d", i.FirmwareVersion.Major, i.FirmwareVersion.Minor)
		return out, nil
	}}, nil)
	if err != nil {
		return TokenInfo{}, err
	}
	return out.(TokenInfo), nil
}
