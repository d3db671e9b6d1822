package money

// Tube is a tube of coins of one type.
type Tube struct {
	Value int64  `cbor:"1,keyasint"` // minor units of one coin; 0: no such type
	Count uint16 `cbor:"2,keyasint"`
	Full  bool   `cbor:"3,keyasint,omitempty"`
}

// Content is what coins in tubes are worth, in minor units.
func Content(tubes []Tube) (sum int64) {
	for _, t := range tubes {
		sum += t.Value * int64(t.Count)
	}
	return sum
}

// Change is which coins to give for an amount, in minor units: as much of it as these tubes can make and
// no more, with the fewest coins. coins is by type; of two types of one value the higher pays (MDB/ICP
// 4.2, 5.2: the changer's own rule).
func Change(tubes []Tube, amount int64) (coins []int, paid int64) {
	unit := int64(0)
	for _, t := range tubes {
		if t.Value > 0 && t.Count > 0 {
			unit = gcd(unit, t.Value)
		}
	}
	coins = make([]int, len(tubes))
	if unit == 0 || amount < unit {
		return coins, 0
	}
	most := int(amount / unit)
	// fewest[a] is the least number of coins for a; from[i][a] how many of type i it takes.
	const never = 1 << 30
	fewest := make([]int, most+1)
	for a := 1; a <= most; a++ {
		fewest[a] = never
	}
	from := make([][]int16, len(tubes))
	for i, t := range tubes {
		from[i] = make([]int16, most+1)
		if t.Value <= 0 || t.Count == 0 {
			continue
		}
		v, next := int(t.Value/unit), make([]int, most+1)
		copy(next, fewest)
		for a := v; a <= most; a++ {
			for k := 1; k <= int(t.Count) && k*v <= a; k++ {
				// At a draw the later type wins.
				if n := fewest[a-k*v] + k; n <= next[a] && fewest[a-k*v] < never {
					next[a], from[i][a] = n, int16(k) //nolint:gosec // at most 255
				}
			}
		}
		fewest = next
	}
	a := most
	for fewest[a] == never {
		a--
	}
	paid = int64(a) * unit
	for i := len(tubes) - 1; i >= 0; i-- {
		coins[i] = int(from[i][a])
		if coins[i] > 0 {
			a -= coins[i] * int(tubes[i].Value/unit)
		}
	}
	return coins, paid
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
