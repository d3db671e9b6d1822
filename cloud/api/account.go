package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"coinop/cloud/account"

	"github.com/danielgtaylor/huma/v2"
)

// Account is what a closed-loop card is worth.
type Account struct {
	ID         string    `json:"id"`
	Tenant     string    `json:"tenant"`
	Card       string    `json:"card" doc:"its id; uid: or loop: before what anyone can copy"`
	Unverified bool      `json:"unverified,omitempty" doc:"it was opened for what anyone can copy"`
	State      string    `json:"state" enum:"open,blocked,closed"`
	Label      string    `json:"label,omitempty"`
	Balance    Amount    `json:"balance"`
	Held       Amount    `json:"held" doc:"of the balance, for payments that have not ended"`
	Counter    uint16    `json:"counter" doc:"the highest a reader has seen on the card"`
	Opened     time.Time `json:"opened"`
}

// Entry is one change of an account. The sums of all are its balance and what is held.
type Entry struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind" enum:"load,hold,release,capture,correction"`
	Balance Amount    `json:"balance" doc:"change of the balance"`
	Held    Amount    `json:"held" doc:"change of what is held"`
	Cause   string    `json:"cause" doc:"what caused it: op/payment/kind/n, or desk/account/reference"`
	Payment string    `json:"payment,omitempty"`
	Device  string    `json:"device,omitempty"`
	Note    string    `json:"note,omitempty"`
}

// AccountPage is an account with its newest entries.
type AccountPage struct {
	Account
	Entries []Entry `json:"entries" doc:"the newest first"`
	Next    string  `json:"next,omitempty" doc:"before of the next page; absent on the last"`
}

type accountsInput struct {
	Tenant string `query:"tenant" doc:"only of this tenant" maxLength:"63"`
	State  string `query:"state" doc:"only in this state" enum:"open,blocked,closed"`
	After  string `query:"after" doc:"only opened after this account: next of the page before" maxLength:"36"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

type accountsBody struct {
	Accounts []Account `json:"accounts"`
	Next     string    `json:"next,omitempty" doc:"after of the next page; absent on the last"`
}

func (s *server) accounts(ctx context.Context, in *accountsInput) (*body[accountsBody], error) {
	f := account.Filter{Tenant: in.Tenant}
	f.State, _ = account.ParseState(in.State) // none: all
	if in.After != "" {
		id, err := accountID(in.After)
		if err != nil {
			return nil, err
		}
		f.After = id
	}
	all, err := s.cfg.Ledger.Accounts(ctx, f, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := accountsBody{Accounts: []Account{}}
	if len(all) > in.Limit {
		all = all[:in.Limit]
		out.Next = all[len(all)-1].ID.String()
	}
	for _, a := range all {
		out.Accounts = append(out.Accounts, accountOf(a))
	}
	return ok(out), nil
}

type accountInput struct {
	ID     string `path:"id" maxLength:"36"`
	Before string `query:"before" doc:"only entries older than this: next of the page before" maxLength:"20" pattern:"^[0-9]*$"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

func (s *server) account(ctx context.Context, in *accountInput) (*body[AccountPage], error) {
	id, err := accountID(in.ID)
	if err != nil {
		return nil, err
	}
	before := uint64(0)
	if in.Before != "" {
		if before, err = strconv.ParseUint(in.Before, 10, 63); err != nil {
			return nil, huma.NewError(http.StatusUnprocessableEntity, "not a place among entries", &huma.ErrorDetail{Message: err.Error(), Value: in.Before})
		}
	}
	a, there, err := s.cfg.Ledger.FindAccount(ctx, id)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, huma.Error404NotFound("no such account; /api/v1/accounts lists them")
	}
	entries, err := s.cfg.Ledger.AccountEntries(ctx, id, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := AccountPage{Account: accountOf(a), Entries: []Entry{}}
	if len(entries) > in.Limit {
		entries = entries[:in.Limit]
		out.Next = fmt.Sprint(entries[len(entries)-1].Seq)
	}
	for _, e := range entries {
		x := Entry{
			At: e.At.Time(), Kind: e.Kind.String(), Balance: amount(a.Amount(e.Balance)), Held: amount(a.Amount(e.Held)),
			Cause: e.Key, Device: string(e.Device), Note: e.Note,
		}
		if !e.Payment.IsZero() {
			x.Payment = e.Payment.String()
		}
		out.Entries = append(out.Entries, x)
	}
	return ok(out), nil
}

func accountID(text string) (id account.ID, err error) {
	if err := id.UnmarshalText([]byte(text)); err != nil {
		return id, huma.NewError(http.StatusUnprocessableEntity, "not an account's id", &huma.ErrorDetail{Message: err.Error(), Value: text})
	}
	return id, nil
}

func accountOf(a account.Account) Account {
	return Account{
		ID: a.ID.String(), Tenant: a.Tenant, Card: a.Card, Unverified: a.Unverified, State: a.State.String(), Label: a.Label,
		Balance: amount(a.Amount(a.Balance)), Held: amount(a.Amount(a.Held)), Counter: a.Counter, Opened: a.Opened.Time(),
	}
}
