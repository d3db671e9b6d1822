package main

import (
	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/magstripe"
	"coinop/protocol/money"
)

// heads are what a reader of stripes is connected by; "" is a keyboard.
var heads = map[string]magstripe.Head{"serial": magstripe.HeadSerial, "magtek": magstripe.HeadMagTek, "idtech": magstripe.HeadIDTECH}

// banks are from which heads bank cards are taken; "" is from those that encrypt.
var banks = map[string]magstripe.Bank{"none": magstripe.BankNone, "clear": magstripe.BankClear}

// readerPort is the driver of a reader, as findPort wants it.
func readerPort(r configs.Reader) string {
	if r.Driver == "magstripe" && heads[r.Head] == magstripe.HeadKeyboard {
		return typing + r.Driver
	}
	return r.Driver
}

func readerOf(r configs.Reader, path string, c money.Currency) func(agent.Wiring) (agent.Reader, error) {
	if r.Driver != "magstripe" {
		return agent.ViVOpay(path, c)
	}
	rules := magstripe.Rules{Bank: banks[r.BankCards], Chip: r.ChipCards == "taken"}
	for _, own := range r.OwnCards {
		from, to := configs.CardRange(own)
		rules.Own = append(rules.Own, magstripe.Range{From: from, To: to})
	}
	return agent.Magstripe(magstripe.Config{Path: path, Head: heads[r.Head], Currency: c, Rules: rules})
}
