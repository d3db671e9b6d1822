package account

import (
	"context"
	"errors"
	"fmt"

	"coinop/cloud/acquirer"
	"coinop/cloud/payment"
	"coinop/protocol"
)

// Profile is the contract we have with ourselves: a hold, then what was delivered of it.
func Profile() acquirer.Profile {
	return acquirer.Profile{Name: acquirer.Accounts, Flow: acquirer.DualFinal, T1MS: 5_000, LateWindowMS: 1_000, CanQuery: true}
}

// LinkConfig is what a Link needs; all of it.
type LinkConfig struct {
	// Do runs a unit of work; those of one key never run side by side. It returns after the commit.
	Do    func(ctx context.Context, key string, fn func(Tx) error) error
	Cards acquirer.Cards // the vault
	Now   func() protocol.UnixMS
}

// Link answers operations about closed-loop cards by their accounts. It is safe for concurrent use, and any
// number of them may work over one store.
type Link struct{ cfg LinkConfig }

var _ acquirer.Acquirer = (*Link)(nil)

// NewLink makes a Link.
func NewLink(cfg LinkConfig) *Link {
	if cfg.Do == nil || cfg.Cards == nil || cfg.Now == nil {
		panic("account: incomplete configuration")
	}
	return &Link{cfg}
}

// Why an authorization was not carried out: nothing was stored.
var (
	errLate   = errors.New("its time to be carried out is over")
	errCard   = errors.New("its card is not in memory any more")
	errNobody = errors.New("no such payment")
	errNone   = errors.New("no such operation")
)

// Do carries an operation out, in one commit with its answer.
func (l *Link) Do(ctx context.Context, op acquirer.Op) (acquirer.Answer, error) {
	if op.AnswerBy > 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, op.AnswerBy.Sub(l.cfg.Now()))
		defer end()
	}
	var card *protocol.SealedLoop
	if op.Key.Kind == acquirer.Authorization {
		err := l.cfg.Cards.WithCard(ctx, op.Key, func(c acquirer.Card) error {
			if c.Loop != nil {
				copied := *c.Loop
				card = &copied
			}
			return nil
		})
		if err != nil {
			card = nil // it may have been answered: then that is the answer
		}
	}
	var ans acquirer.Answer
	err := l.cfg.Do(ctx, op.Key.Payment.String(), func(tx Tx) error {
		var err error
		ans, err = l.carryOut(tx, op, card)
		return err
	})
	return ans, sorted(err)
}

// sorted makes one of the two errors that decide everything.
func sorted(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errLate), errors.Is(err, errCard), errors.Is(err, errNobody):
		return fmt.Errorf("%w: %w", acquirer.ErrNotSent, err)
	}
	return fmt.Errorf("%w: %w", acquirer.ErrUnknown, err)
}

// Query says what became of an operation; ErrUnknown when nothing is known of it.
func (l *Link) Query(ctx context.Context, op acquirer.Op) (acquirer.Answer, error) {
	var ans acquirer.Answer
	err := l.cfg.Do(ctx, op.Key.Payment.String(), func(tx Tx) error {
		was, there, err := tx.AccountOp(op.Key)
		if ans = was.Answer; err == nil && !there {
			err = errNone
		}
		return err
	})
	return ans, sorted(err)
}

// unit is one operation under way.
type unit struct {
	tx  Tx
	now protocol.UnixMS
	op  acquirer.Op
	pay payment.Payment
}

func (l *Link) carryOut(tx Tx, op acquirer.Op, card *protocol.SealedLoop) (acquirer.Answer, error) {
	was, there, err := tx.AccountOp(op.Key)
	if err != nil || there {
		return was.Answer, err
	}
	u := &unit{tx: tx, now: l.cfg.Now(), op: op}
	if u.pay, err = tx.Payment(op.Key.Payment); err != nil {
		return acquirer.Answer{}, err
	}
	if u.pay.Version == 0 {
		return acquirer.Answer{}, errNobody
	}
	switch op.Key.Kind {
	case acquirer.Authorization:
		return u.hold(card)
	case acquirer.Reversal:
		return u.release()
	case acquirer.PartialReversal, acquirer.Capture:
		return u.settle()
	default: // refunds are not built yet
		return no(protocol.DeclineFormat, "12"), nil
	}
}

func no(class protocol.Code, raw string) acquirer.Answer {
	return acquirer.Answer{Outcome: acquirer.No, Class: class, Raw: raw}
}

func ok(raw string) acquirer.Answer { return acquirer.Answer{Outcome: acquirer.OK, Raw: raw} }

// hold answers an authorization.
func (u *unit) hold(card *protocol.SealedLoop) (acquirer.Answer, error) {
	switch {
	case u.op.WriteBy > 0 && u.now > u.op.WriteBy:
		return acquirer.Answer{}, errLate
	case card == nil:
		return acquirer.Answer{}, errCard
	}
	a, err := u.tx.AccountOf(u.pay.Tenant, u.op.Amount.Currency, card.Ref())
	if err != nil {
		return acquirer.Answer{}, err
	}
	ans := judge(a, *card, u.op)
	was := a
	if a.Version > 0 && card.Verified {
		if card.Counter < a.Counter { // a copy of the card as it once was, or a desk's mistake
			u.tx.PutIncident(payment.Incident{
				Name: payment.CardCounterBack, Device: u.pay.Device, Payment: u.pay.ID, At: u.now,
				Detail: fmt.Sprintf("account %s: the card counts %d, and was seen at %d", a.ID, card.Counter, a.Counter),
			})
		}
		a.Counter = max(a.Counter, card.Counter)
	}
	if ans.Outcome == acquirer.No {
		if a != was {
			u.tx.PutAccount(a)
		}
		u.tx.PutAccountOp(Op{Key: u.op.Key, Account: a.ID, Answer: ans})
		return ans, nil
	}
	return ans, u.put(a, ans, Entry{Kind: Hold, Held: ans.Approved.Minor})
}

// judge says what an account answers to an authorization.
func judge(a Account, card protocol.SealedLoop, op acquirer.Op) acquirer.Answer {
	there := a.Version > 0
	switch {
	case !card.Verified && (!there || !a.Unverified):
		return no(protocol.DeclineUnverified, "63")
	case !there:
		return no(protocol.DeclineUnknown, "14")
	case a.State == Closed:
		return no(protocol.DeclineBlocked, "46")
	case a.State != Open:
		return no(protocol.DeclineBlocked, "62")
	}
	ans := ok("00")
	ans.Approved, ans.RRN = op.Amount, op.RRN
	switch left := a.Available(); {
	case left >= op.Amount.Minor:
	case left > 0 && op.Purpose == protocol.MaxHold: // what is there may be spent
		ans.Outcome, ans.Raw, ans.Approved.Minor = acquirer.PartialOK, "10", left
	default:
		return no(protocol.DeclineFunds, "51")
	}
	return ans
}

// put stores an entry with its account and its operation's answer.
func (u *unit) put(a Account, ans acquirer.Answer, e Entry) error {
	e.Key, e.Account, e.Payment, e.Device, e.At = "op/"+u.op.Key.String(), a.ID, u.pay.ID, u.pay.Device, u.now
	a, err := a.add(e)
	if err != nil {
		return err
	}
	u.tx.PutAccount(a)
	u.tx.PutEntry(e)
	u.tx.PutAccountOp(Op{Key: u.op.Key, Account: a.ID, Answer: ans})
	return nil
}

// held is what is held for the payment, at which account, and what it has taken.
func (u *unit) held() (a Account, held, taken int64, err error) {
	entries, err := u.tx.PaymentEntries(u.pay.ID)
	if err != nil || len(entries) == 0 {
		return a, 0, 0, err
	}
	for _, e := range entries {
		held += e.Held
		taken -= e.Balance
	}
	a, err = u.tx.Account(entries[0].Account)
	return a, held, taken, err
}

// release answers a reversal. The authorization it undoes may not have come yet: then it never will.
func (u *unit) release() (acquirer.Answer, error) {
	auth := acquirer.OpKey{Payment: u.op.Key.Payment, Kind: acquirer.Authorization, N: u.op.Key.N}
	was, there, err := u.tx.AccountOp(auth)
	if err != nil {
		return acquirer.Answer{}, err
	}
	a, held, taken, err := u.held()
	if err != nil {
		return acquirer.Answer{}, err
	}
	ans := ok("00")
	switch {
	case taken > 0:
		ans = no(protocol.DeclineFinal, "21")
	case held > 0 && there && was.Answer.Outcome != acquirer.No:
		return ans, u.put(a, ans, Entry{Kind: Release, Held: -held})
	case !there:
		u.tx.PutAccountOp(Op{Key: auth, Answer: no(protocol.DeclineTemporary, "68")})
	}
	u.tx.PutAccountOp(Op{Key: u.op.Key, Account: a.ID, Answer: ans})
	return ans, nil
}

// settle answers a capture, or what brings a hold down to what will be captured.
func (u *unit) settle() (acquirer.Answer, error) {
	a, held, _, err := u.held()
	if err != nil {
		return acquirer.Answer{}, err
	}
	keep := u.op.Amount
	if u.op.Key.Kind == acquirer.PartialReversal {
		keep = u.op.Actual
	}
	if held <= 0 || keep.Minor <= 0 || keep.Minor > held || keep.Currency != a.Currency {
		ans := no(protocol.DeclineFinal, "25") // nothing stands, or not so much: a person must look
		u.tx.PutAccountOp(Op{Key: u.op.Key, Account: a.ID, Answer: ans})
		return ans, nil
	}
	ans := ok("00")
	if u.op.Key.Kind == acquirer.PartialReversal {
		return ans, u.put(a, ans, Entry{Kind: Release, Held: keep.Minor - held})
	}
	about := a.about(u.now)
	about.Payment, about.Device = u.pay.ID, u.pay.Device
	u.tx.Post(about.Confirmed("op/"+u.op.Key.String(), keep)...)
	return ans, u.put(a, ans, Entry{Kind: Capture, Balance: -keep.Minor, Held: -held})
}
