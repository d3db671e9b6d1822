-- Sales for cash are found by their records: kinds 32 and 37 (CashIn, CashSale).

-- +goose Up
create index record_cash on record (sale) where sale is not null and kind in (32, 37);
