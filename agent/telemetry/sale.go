package telemetry

import (
	"context"

	"coinop/protocol"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// ids are those a context names: protocol's, so that the cloud's spans hang below ours though nobody
// told it more than the sale and the payment.
type ids struct{}

type idKey struct{}

type id struct {
	trace protocol.TraceID
	span  protocol.SpanID
}

var _ sdktrace.IDGenerator = ids{}

// NewIDs and NewSpanID are of sdktrace.IDGenerator. Spans without an id of their own there are none.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	i, _ := ctx.Value(idKey{}).(id)
	return trace.TraceID(i.trace), trace.SpanID(i.span)
}

func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	i, _ := ctx.Value(idKey{}).(id)
	return trace.SpanID(i.span)
}

// Sale makes the trace of a sale that has ended, of its records in order, with their times:
//
//	sale ─┬─ authorize   one for each payment that was asked for; the cloud's spans hang below it
//	      └─ vend        one for each item
//
// A power cut in the middle changes nothing but the times.
func (t *Telemetry) Sale(records []protocol.Opened) {
	if len(records) == 0 {
		return
	}
	first, last := records[0], records[len(records)-1]
	sale := first.Sale
	ctx := context.Background()
	with := func(parent context.Context, span protocol.SpanID) context.Context {
		return context.WithValue(parent, idKey{}, id{protocol.TraceOf(sale), span})
	}
	ctx, root := t.tracer.Start(with(ctx, protocol.SpanOf(sale)), "sale", trace.WithTimestamp(first.At.Wall.Time()),
		trace.WithAttributes(attribute.String("coinop.sale.id", sale.String()), attribute.Int("coinop.lane", int(first.Lane))))
	type open struct {
		span trace.Span
		at   protocol.Opened
	}
	pay, vend := map[protocol.PaymentID]open{}, map[protocol.VendID]open{}
	end := func(o open, at protocol.Opened, result string, failed bool, into metric.Float64Histogram) {
		o.span.SetAttributes(attribute.String("coinop.result", result))
		if failed {
			o.span.SetStatus(codes.Error, result)
		}
		o.span.End(trace.WithTimestamp(at.At.Wall.Time()))
		if at.At.Boot == o.at.At.Boot { // else no clock says how long it took
			into.Record(ctx, (at.At.Mono - o.at.At.Mono).Seconds(), metric.WithAttributes(attribute.String("result", result)))
		}
	}
	how := ""
	for _, r := range records {
		at := trace.WithTimestamp(r.At.Wall.Time())
		switch b := r.Body.(type) {
		case protocol.AuthorizationSent:
			_, s := t.tracer.Start(with(ctx, protocol.SpanOf(b.Payment)), "authorize", at, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
				attribute.String("coinop.payment.id", b.Payment.String()), attribute.Int64("coinop.amount.minor", b.Amount.Minor),
				attribute.String("coinop.currency", b.Amount.Currency.String()), attribute.String("coinop.card.brand", b.Card.Brand)))
			pay[b.Payment] = open{s, r}
		case protocol.AuthorizationAnswered:
			if o, ok := pay[b.Payment]; ok {
				delete(pay, b.Payment)
				end(o, r, b.Result.String(), false, t.asked) // a decline is no error
			}
		case protocol.OfflineAccepted:
			root.AddEvent("accepted offline", at, trace.WithAttributes(attribute.String("coinop.cause", b.Cause.String())))
		case protocol.VendStarted:
			_, s := t.tracer.Start(with(ctx, protocol.SpanOf(b.Vend)), "vend", at, trace.WithAttributes(
				attribute.String("coinop.vend.id", b.Vend.String()), attribute.Int("coinop.outlet", int(b.Outlet)), attribute.String("coinop.product", b.Product)))
			vend[b.Vend] = open{s, r}
		case protocol.VendResult:
			if o, ok := vend[b.Vend]; ok && b.Result != protocol.Unknown {
				delete(vend, b.Vend)
				end(o, r, b.Result.String(), b.Result == protocol.Failed, t.vended)
			}
		case protocol.VendResolved:
			if o, ok := vend[b.Vend]; ok {
				delete(vend, b.Vend)
				end(o, r, b.Result.String(), b.Result == protocol.Failed, t.vended)
			}
		case protocol.PaymentOutcome:
			root.AddEvent(b.What.String(), at, trace.WithAttributes(
				attribute.Int64("coinop.amount.minor", b.Amount.Minor), attribute.String("coinop.reason", b.Reason.String())))
		case protocol.CaseOpened:
			root.SetStatus(codes.Error, "case: "+b.Cause.String())
			root.AddEvent("case opened", at, trace.WithAttributes(attribute.String("coinop.case.id", b.Case.String())))
		case protocol.SaleClosed:
			how = b.How.String()
			root.SetAttributes(attribute.String("coinop.how", how))
		}
	}
	for _, o := range pay {
		end(o, last, "unanswered", true, t.asked)
	}
	for _, o := range vend {
		end(o, last, "unknown", true, t.vended)
	}
	root.End(trace.WithTimestamp(last.At.Wall.Time()))
	t.sales.Add(ctx, 1, metric.WithAttributes(attribute.String("how", how)))
}
