-- One page of the index of one plugin, under one secret.
--
-- KEYS: the index, a hash from the names of values to what their keys are, sealed; and as for keys.lua the sorted set of
-- expiries and the hash of sizes. All are in one slot, and so are the values.
-- ARGV: where to go on; how many entries to read.
--
-- Answers with a list: `page`, where the next page begins (0 after the last), then names and entries.

local index, expiries, sizes = KEYS[1], KEYS[2], KEYS[3]
local scanned = redis.call('HSCAN', index, ARGV[1], 'COUNT', ARGV[2])
local page = {'page', scanned[1]}
for place = 1, #scanned[2], 2 do
  local name = scanned[2][place]
  if redis.call('EXISTS', name) == 1 then
    page[#page + 1] = name
    page[#page + 1] = scanned[2][place + 1]
  else
    -- It has expired: it is taken out of the books.
    local size = redis.call('HGET', sizes, name)
    if size then
      redis.call('HDEL', sizes, name)
      redis.call('HINCRBY', sizes, '', '-' .. size)
    end
    redis.call('ZREM', expiries, name)
    redis.call('HDEL', index, name)
  end
end
return page
