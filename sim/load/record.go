package load

import (
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// reading is the time a record was written at.
func reading() protocol.Reading {
	now := time.Now()
	return protocol.Reading{Wall: protocol.At(now), Boot: protocol.BootID{1}, Mono: time.Duration(now.UnixNano())}
}

// began is the first record of every journal.
func (d *device) began() protocol.Record {
	return protocol.Record{At: reading(), Body: protocol.EpochStarted{CertSerial: d.bundle.Serial, Software: "load", Reason: "new"}}
}

// sale is what an agent writes of a sale that was paid and delivered: seven records.
func sale(p paid) []protocol.Record {
	id := [16]byte(p.payment)
	vend := protocol.VendID(id)
	bodies := []protocol.Body{
		protocol.SaleOpened{
			Flow: protocol.SelectionFirst, Class: protocol.Live, Due: price,
			Lines: []protocol.Line{{Product: "cola", Outlet: 5, Qty: 1, Unit: price, Amount: price}},
			Items: []protocol.Item{{Vend: vend, Outlet: 5, Amount: price}},
		},
		protocol.AuthorizationSent{Payment: p.payment, AskHash: p.ask, Purpose: protocol.Exact, Amount: price, WaitMS: 10_000, Card: protocol.Card{
			BlobHash: p.ask, Brand: "mastercard", Last4: "0011", Entry: protocol.EntryContactless,
		}},
		protocol.AuthorizationAnswered{
			Payment: p.payment, Answer: p.response.Answer, AnswerHash: p.answer, Result: p.response.Result,
			Approved: p.response.Approved, RRN: p.response.RRN, AuthID: p.response.AuthID, ReleaseAt: p.response.ReleaseAt,
		},
		protocol.VendStarted{Vend: vend, Payment: p.payment, N: 1, Outlet: 5, Product: "cola", Amount: price},
		protocol.VendResult{Vend: vend, Result: protocol.Delivered, Grade: protocol.GradeReported},
		protocol.PaymentOutcome{Payment: p.payment, What: protocol.Capture, Amount: price, Counted: []protocol.VendID{vend}},
		protocol.SaleClosed{How: protocol.Sold, Delivered: price},
	}
	return records(protocol.SaleID(id), bodies)
}

// refused is what an agent without its line writes of a sale that came to nothing: three records.
func refused(sale protocol.SaleID) []protocol.Record {
	return records(sale, []protocol.Body{
		protocol.SaleOpened{
			Flow: protocol.SelectionFirst, Class: protocol.Live, Due: price,
			Lines: []protocol.Line{{Product: "cola", Outlet: 5, Qty: 1, Unit: price, Amount: price}},
		},
		protocol.DeviceEvent{Code: "link.down", Detail: "no way to the bank"},
		protocol.SaleClosed{How: protocol.Abandoned, Delivered: money.New(0, money.EUR)},
	})
}

func records(sale protocol.SaleID, bodies []protocol.Body) []protocol.Record {
	out := make([]protocol.Record, len(bodies))
	for i, b := range bodies {
		out[i] = protocol.Record{Sale: sale, At: reading(), Body: b}
	}
	return out
}
