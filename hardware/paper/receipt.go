package paper

import (
	"strings"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"
)

// Receipt is what a buyer may keep of a sale. It holds no more of a card than a receipt may (the last
// four digits: PCI DSS 3.4.1 would allow more, nobody needs it).
type Receipt struct {
	Head     []string     `json:"head,omitempty"` // the seller's name, and below it the address
	Foot     []string     `json:"foot,omitempty"`
	Machine  string       `json:"machine"`
	Sale     string       `json:"sale"`
	At       time.Time    `json:"at"` // in the machine's own time zone
	Items    []Item       `json:"items,omitempty"`
	Charged  money.Amount `json:"charged"`
	Brand    string       `json:"brand,omitempty"`
	Last4    string       `json:"last4,omitempty"`
	Cash     money.Amount `json:"cash,omitzero"`      // put in
	Change   money.Amount `json:"change,omitzero"`    // given back
	Owed     money.Amount `json:"owed,omitzero"`      // of the change, and did not come out
	Approval string       `json:"approval,omitempty"` // DE38 of the bank's answer
	Terminal []string     `json:"terminal,omitempty"` // lines of a terminal that authorized by itself
	Offline  bool         `json:"offline,omitempty"`  // the bank has not been asked yet
	Open     bool         `json:"open,omitempty"`     // a person will look into it
	Test     bool         `json:"test,omitempty"`
	Copy     bool         `json:"copy,omitempty"`
	Merchant bool         `json:"merchant,omitempty"` // the seller's own
	QR       string       `json:"qr,omitempty"`       // what a QR code at its end says; none
}

// Form is how the papers of one printer are.
type Form struct {
	Columns int
	Charset Charset
	Logo    *Bitmap // above everything; none
}

// Item is one thing that was bought, or that did not come out.
type Item struct {
	Name  string       `json:"name"`
	Price money.Amount `json:"price"`
	State ItemState    `json:"state"`
}

// ItemState is what became of an item.
type ItemState string

// States of an item.
const (
	ItemDelivered ItemState = "delivered"
	ItemFailed    ItemState = "failed"
	ItemUnknown   ItemState = "unknown"
)

// Reference is what a buyer can read out: the end of the sale's id.
func (r Receipt) Reference() string {
	id := strings.ToUpper(strings.ReplaceAll(r.Sale, "-", ""))
	if len(id) < 8 {
		return id
	}
	return id[len(id)-8:len(id)-4] + " " + id[len(id)-4:]
}

// Layout lays the receipt out. A QR code that does not fit on the paper is left out.
func (r Receipt) Layout(f Form) Page {
	p := Page{Columns: f.Columns, Charset: f.Charset}
	if f.Logo != nil {
		p.Image(f.Logo)
	}
	if r.Copy {
		p.Center(Line{Text: "COPY", Bold: true})
	}
	if r.Merchant {
		p.Center(Line{Text: "SELLER'S RECEIPT", Bold: true})
	}
	for i, s := range r.Head {
		p.Center(Line{Text: s, Big: i == 0, Bold: i == 0})
	}
	if r.Test {
		p.Center(Line{Text: "TEST - NO MONEY MOVES", Bold: true})
	}
	p.Blank()
	p.Pair(r.At.Format("2006-01-02 15:04:05"), r.Machine, false)
	p.Pair("Reference", r.Reference(), false)
	p.Rule()
	for _, i := range r.Items {
		switch i.State {
		case ItemFailed:
			p.Pair(i.Name+" (did not come out)", money.New(0, i.Price.Currency).Decimal(), false)
		case ItemUnknown:
			p.Pair(i.Name+" (being checked)", i.Price.Decimal(), false)
		case ItemDelivered:
			p.Pair(i.Name, i.Price.Decimal(), false)
		}
	}
	p.Rule()
	if r.Charged.IsZero() {
		p.Pair("NOT CHARGED", r.Charged.String(), true)
	} else {
		p.Pair("TOTAL", r.Charged.String(), true)
	}
	if r.Last4 != "" {
		kind := "Card"
		if r.Brand != "" {
			kind = strings.ToUpper(r.Brand) + " card"
		}
		p.Pair(kind, "**** "+r.Last4, false)
	} else if r.Brand == protocol.ByClosedLoop.String() { // its number is nobody's to read on paper
		p.Pair("Customer card", "", false)
	}
	if r.Cash.Minor > 0 {
		p.Pair("Cash", r.Cash.String(), false)
		p.Pair("Change", r.Change.String(), false)
	}
	if r.Owed.Minor > 0 {
		p.Pair("Change still owed", r.Owed.String(), true)
	}
	for _, line := range r.Terminal {
		p.Pair(line, "", false)
	}
	if r.Approval != "" && len(r.Terminal) == 0 {
		p.Pair("Approval", r.Approval, false)
	}
	if r.Offline && !r.Charged.IsZero() {
		p.Center(Line{Text: "Offline: your card will be charged within 24 hours."})
	}
	if r.Open {
		p.Center(Line{Text: "We are checking this sale. If something is missing, keep this receipt."})
	}
	if len(r.Foot) > 0 {
		p.Blank()
	}
	for _, s := range r.Foot {
		p.Center(Line{Text: s})
	}
	if r.QR != "" {
		p.Blank()
		if p.Code(NewQR(r.QR)) == nil {
			p.Blank()
		}
	}
	return p
}
