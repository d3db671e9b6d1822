-- Written with every authorization: one is never claimed, so the index of what can be need not know it.

-- +goose Up
drop index payment_device; -- nobody asks for the payments of a device
drop index op_open;
create index op_open on op (ready) where state < 4 and ready is not null;
