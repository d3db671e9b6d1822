package hardwaretest

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"coinop/hardware"
	"coinop/hardware/mdb"
	"coinop/hardware/vivopay"
	"coinop/protocol/money"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQibixx(t *testing.T) {
	t.Parallel()
	Vender(t, func(path string, epoch uint64, out func(hardware.Event)) (hardware.Vender, func(context.Context) (hardware.Driver, error), error) {
		q, err := mdb.NewQibixx(mdb.Config{Path: path, BusEpoch: epoch, Scale: mdb.Scale{Currency: money.EUR, Decimals: 2}}, out)
		return q, q.Open, err
	})
}

func TestVivopay(t *testing.T) {
	t.Parallel()
	CardReader(t, func(path string, out func(hardware.Event)) (hardware.CardReader, func(context.Context) (hardware.Driver, error), error) {
		r, err := vivopay.New(vivopay.Config{Path: path, Currency: money.EUR}, out)
		return r, r.Open, err
	})
}
