package session

import (
	"fmt"
	"strings"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// The text of a script: records and effects with the small numbers of their ids.

func sN(i protocol.SaleID) string    { return fmt.Sprintf("s%d", num(i)) }
func pN(i protocol.PaymentID) string { return fmt.Sprintf("p%d", num(i)) }
func vN(i protocol.VendID) string    { return fmt.Sprintf("v%d", num(i)) }

func vNs(is []protocol.VendID) string {
	var s []string
	for _, i := range is {
		s = append(s, vN(i))
	}
	return strings.Join(s, ",")
}

func words(w ...any) string {
	var out []string
	for _, v := range w {
		if a, ok := v.(money.Amount); ok {
			v = a.Minor
		}
		if s := fmt.Sprint(v); s != "" && s != "none" {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

func keyText(k protocol.BusKey) string {
	if k.IsZero() {
		return ""
	}
	return fmt.Sprintf("key=%d/%d", k.BusEpoch, k.Request)
}

func recordText(r protocol.Record) string {
	switch b := r.Body.(type) {
	case protocol.SaleOpened:
		return words("SaleOpened", sN(r.Sale), b.Flow, b.Class, "due", b.Due, keyText(b.Bus))
	case protocol.AuthorizationSent:
		return words("AuthorizationSent", pN(b.Payment), b.Purpose, b.Amount, fmt.Sprintf("wait=%dms", b.WaitMS))
	case protocol.AuthorizationAnswered:
		return words("AuthorizationAnswered", pN(b.Payment), b.Result, b.Code, b.Approved)
	case protocol.OfflineAccepted:
		prior := ""
		if !b.Prior.IsZero() {
			prior = "prior=" + pN(b.Prior)
		}
		return words("OfflineAccepted", pN(b.Payment), prior, b.OfflineKind, "cause="+b.Cause.String(), b.Rule, b.Amount)
	case protocol.VendStarted:
		return words("VendStarted", vN(b.Vend), pN(b.Payment), fmt.Sprintf("n=%d", b.N), fmt.Sprintf("outlet=%d", b.Outlet), b.Product, b.Amount, keyText(b.Bus))
	case protocol.AckHint:
		return words("AckHint", vN(b.Vend), b.Hint)
	case protocol.VendResult:
		return words("VendResult", vN(b.Vend), b.Result, b.Grade, b.Reason)
	case protocol.VendResolved:
		late := ""
		if b.Late {
			late = "late"
		}
		return words("VendResolved", sN(r.Sale), vN(b.Vend), b.Result, b.Grade, b.Source, late)
	case protocol.PaymentOutcome:
		return words("PaymentOutcome", pN(b.Payment), b.What, b.Amount, b.Reason, vNs(b.Counted))
	case protocol.CaseOpened:
		return words("CaseOpened", b.Cause, vNs(b.Vends), fmt.Sprintf("charged=%v", b.Charged))
	case protocol.SaleClosed:
		return words("SaleClosed", sN(r.Sale), b.How, "delivered", b.Delivered)
	case protocol.LateAnswer:
		return words("LateAnswer", sN(r.Sale), pN(b.Payment), b.Result, b.Approved)
	case protocol.CashIn:
		what := "coin"
		if b.Bill {
			what = "bill"
		}
		return words("CashIn", sN(r.Sale), pN(b.Payment), b.Value, what)
	case protocol.StackOrdered:
		return words("StackOrdered", b.Value)
	case protocol.ChangeOrdered:
		return words("ChangeOrdered", pN(b.Payment), b.Amount, fmt.Sprintf("of %d", money.Content(b.Tubes)))
	case protocol.ChangePaid:
		return words("ChangePaid", pN(b.Payment), b.Given, "short", b.Short, b.Reason)
	case protocol.ChangeUnknown:
		return words("ChangeUnknown", pN(b.Payment), b.Amount, b.Reason)
	case protocol.PolicyApplied:
		return words("PolicyApplied", b.Version)
	case protocol.DeviceEvent:
		return words("DeviceEvent", b.Code, b.Detail)
	}
	return terminalText(r.Body)
}

func refText(r protocol.TerminalRef) string {
	if r.IsZero() {
		return ""
	}
	return "ref=" + strings.TrimLeft(r.Receipt, "0")
}

func terminalText(b protocol.Body) string {
	switch b := b.(type) {
	case protocol.TerminalSent:
		return words("TerminalSent", pN(b.Payment), b.Purpose, b.Amount, "before", refText(b.Before))
	case protocol.TerminalAnswered:
		back := ""
		if b.AskedBack {
			back = "asked_back"
		}
		return words("TerminalAnswered", pN(b.Payment), b.Result, b.Reason, b.Approved, refText(b.Ref), b.Brand, b.Last4, back)
	case protocol.TerminalDone:
		return words("TerminalDone", pN(b.Payment), b.Op, b.Amount, b.End, b.Reason, refText(b.Ref))
	case protocol.TerminalClosed:
		return words("TerminalClosed", b.Total, b.Reason)
	}
	return fmt.Sprintf("%T?", b)
}

func effectText(e Effect) string {
	span := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	switch a := e.(type) {
	case Show:
		return words("Show", a.Screen, a.Amount, a.Reason)
	case ArmReader:
		return words("ArmReader", a.Amount)
	case CardSignal:
		return words("CardSignal", a.OK)
	case Authorize:
		return words("Authorize", pN(a.Ask.Payment), a.Ask.Amount, fmt.Sprintf("record=%d", a.Record))
	case StartTimer:
		return words("StartTimer", a.Name, span(a.After))
	case StopTimer:
		return words("StopTimer", a.Name)
	case Vend:
		return words("Vend", vN(a.ID), fmt.Sprintf("outlet=%d", a.Outlet), a.Amount, "by "+span(a.By), keyText(a.Bus))
	case BeginSession:
		return words("BeginSession", a.Funds)
	case Resume:
		return words("Resume", vN(a.Vend))
	case AskEvidence:
		return words("AskEvidence", vN(a.Vend), fmt.Sprintf("outlet=%d", a.Outlet))
	case Receipt:
		return words("Receipt", sN(a.Sale))
	case StopOutlet:
		return words("StopOutlet", a.Outlet, a.Reason)
	case AcceptCash:
		return words("AcceptCash", a.Most)
	case TakeBill:
		return words("TakeBill", a.Take)
	case PayChange:
		return words("PayChange", a.Amount)
	case TerminalAuthorize:
		return words("TerminalAuthorize", pN(a.Payment), a.Amount)
	case TerminalAbort:
		return words("TerminalAbort", pN(a.Payment))
	case TerminalCapture:
		return words("TerminalCapture", pN(a.Payment), refText(a.Ref), a.Amount, "of", a.Approved)
	case TerminalCancel:
		return words("TerminalCancel", pN(a.Payment), refText(a.Ref), a.Approved)
	case TerminalAsk:
		return words("TerminalAsk", pN(a.Payment), refText(a.Ref))
	case TerminalClose:
		return "TerminalClose"
	case DenyVend:
		return words("DenyVend", keyText(a.Bus))
	case DisarmReader, EndSession:
		return strings.TrimPrefix(fmt.Sprintf("%T", e), "session.")
	}
	return fmt.Sprintf("%T?", e)
}
