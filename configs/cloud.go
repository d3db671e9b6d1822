package configs

import (
	"fmt"
	"time"
)

// Cloud is the file of the service the machines talk to.
type Cloud struct {
	// Folder of the keys and the ledger: everything the service must not lose.
	Dir Path `key:"dir" need:"yes" like:"/var/lib/coinop" flag:"dir"`
	// Address to listen at for machines; without a host it is every address of this computer, port 0 is any free one.
	Listen Address `key:"listen" default:"127.0.0.1:8883" any:"yes" like:":8883" flag:"listen"`
	// A broker elsewhere that machines connect to, in place of the one at listen; coinop-cloud broker mosquitto prepares one. Replicas share it.
	Broker string `key:"broker" match:"mqtts://[^/ @]+:[0-9]+" says:"the address of a broker" like:"mqtts://mqtt.example.com:8884" flag:"broker"`
	// Names and addresses machines reach this service by; its certificate says them.
	Hosts []string `key:"hosts" default:"127.0.0.1 localhost" most:"32" match:"[A-Za-z0-9.:-]{1,253}" says:"a name or an address without a port" like:"pos.example.com" flag:"host"`
	// Where the ledger is kept: sqlite is a file in dir; a URL is a database on PostgreSQL 15 or later, its password in PGPASSWORD or ~/.pgpass.
	Store string `key:"store" default:"sqlite" match:"sqlite|postgres(ql)?://[^ ]+" says:"sqlite, or the URL of a PostgreSQL database" like:"postgres://coinop@db.example.com/coinop" flag:"store"`
	// Address of the HTTP interface, a loopback one, for it knows no users yet. Without it there is none.
	HTTP Address `key:"http" any:"yes" like:"127.0.0.1:8880" flag:"http"`
	// Links to the banks. Without one every card is refused.
	Acquirers []Acquirer `key:"acquirers" most:"32"`
	// What the service writes to standard error.
	Log Log `key:"log"`

	Origin
}

// Acquirer is a link to one bank's host. What the contract with the bank says goes here.
type Acquirer struct {
	// Name of the link; device add --link says it.
	Name string `key:"name" need:"yes" match:"[a-z0-9][a-z0-9-]{0,31}" says:"small letters, digits and -" like:"bank"`
	// Address of the host.
	Addr Address `key:"addr" need:"yes" like:"10.0.0.5:5000"`
	// Acquiring institution code, ISO 8583 DE32.
	Institution string `key:"institution" need:"yes" match:"[0-9]{1,11}" says:"the 1 to 11 digits your acquirer gave you" like:"00000000001"`
	// How money moves. dual_final: 0100, then 0220 of the actual amount. dual_partial: 0420 with DE95 in between. single: 0200.
	Flow string `key:"flow" default:"dual_final" one:"dual_final dual_partial single"`
	// How long the host may take to answer.
	HostTimeout time.Duration `key:"host_timeout" default:"15s" least:"1s" most:"2m"`
	// How long after an authorization "not found" is no answer to its reversal, for the authorization may still arrive.
	LateWindow time.Duration `key:"late_window" default:"1m30s" least:"1s" most:"1h"`
	// Whether a repeated message has a new STAN and DE7.
	STANPerRepeat bool `key:"stan_per_repeat" default:"false"`
	// DE4 of a full reversal after a partial approval: the amount sent, or the amount approved.
	ReversalAmount string `key:"reversal_amount" default:"sent" one:"sent approved"`
	// Whether the next authorization of a terminal waits until an owed reversal was written, or until it was answered.
	ReversalFirst string `key:"reversal_first" default:"write" one:"write await"`
	// Whether the host answers when it is asked what became of a message.
	CanQuery bool `key:"can_query" default:"false"`
}

// check finds what no single value shows.
func (c Cloud) check() []Problem {
	var ps []Problem
	names, hosts := map[string]int{}, map[string]bool{}
	for i, a := range c.Acquirers {
		if first, twice := names[a.Name]; twice {
			ps = append(ps, c.Refuse(fmt.Sprintf("acquirers.%d.name", i),
				fmt.Sprintf("%s is the name of acquirer %d already", a.Name, first+1), "give each link a name of its own"))
		} else {
			names[a.Name] = i
		}
	}
	for _, h := range c.Hosts {
		if hosts[h] {
			ps = append(ps, c.Refuse("hosts", h+" stands twice", "write it once"))
		}
		hosts[h] = true
	}
	return ps
}
