-- One operation of the store of one plugin.
--
-- KEYS: for each secret of the fleet, the first one first: the value; a sorted set of all values of the plugin by the
-- millisecond at which they expire; a hash with the bytes of each, whose field '' is their sum; and a hash with the key of
-- each, sealed. All are in one slot.
-- ARGV: operation; longest life of a value in milliseconds; largest value in bytes; bytes that the plugin may hold;
-- bytes that a value counts for beside itself; the value's own key, sealed; then what the operation needs.
--
-- Answers with a list whose first element says what follows: `ok` with or without a value, `full`, `nan`, `malformed`.

local operation = ARGV[1]
local longest, largest = tonumber(ARGV[2]), tonumber(ARGV[3])
local budget, overhead = tonumber(ARGV[4]), tonumber(ARGV[5])
local value, expiries, sizes, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- Takes a value out of the books.
local function forget(name, in_expiries, in_sizes, in_index)
  local size = redis.call('HGET', in_sizes, name)
  if size then
    redis.call('HDEL', in_sizes, name)
    redis.call('HINCRBY', in_sizes, '', '-' .. size)
  end
  redis.call('ZREM', in_expiries, name)
  redis.call('HDEL', in_index, name)
end

-- Enters the value into the books.
local function remember(size, life)
  redis.call('HSET', sizes, value, whole(size))
  redis.call('HINCRBY', sizes, '', whole(size))
  redis.call('ZADD', expiries, whole(now() + life), value)
  redis.call('HSET', index, value, ARGV[6])
  for _, book in ipairs({expiries, sizes, index}) do
    redis.call('PEXPIRE', book, whole(longest + 60000))
  end
end

-- What was written under an older secret gets the name of today.
for older = 5, #KEYS, 4 do
  if redis.call('EXISTS', value) == 0 and redis.call('EXISTS', KEYS[older]) == 1 then
    local size = tonumber(redis.call('HGET', KEYS[older + 2], KEYS[older]) or overhead)
    redis.call('RENAME', KEYS[older], value)
    forget(KEYS[older], KEYS[older + 1], KEYS[older + 2], KEYS[older + 3])
    forget(value, expiries, sizes, index)
    remember(size, math.max(redis.call('PTTL', value), 0))
  end
end

if redis.call('STRLEN', value) > largest then
  if operation ~= 'set' and operation ~= 'remove' then
    return {'malformed'}
  end
end

local function remove()
  forget(value, expiries, sizes, index)
  return redis.call('DEL', value)
end

-- Milliseconds of a life that is given as text; '' is as long as possible.
local function life_of(text)
  if text == '' then
    return longest
  end
  return math.min(tonumber(text), longest)
end

-- Whether there is room for a value that counts for so many bytes, in place of the present one.
local function has_room(size)
  local held = tonumber(redis.call('HGET', sizes, '') or 0)
  local present = tonumber(redis.call('HGET', sizes, value) or 0)
  return held - present + size <= budget
end

local function forget_expired()
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', whole(now()), 'LIMIT', 0, 1000)) do
    forget(name, expiries, sizes, index)
  end
end

local function write(new, size, life)
  if life <= 0 then
    remove()
    return {'ok'}
  end
  if not has_room(size) then
    forget_expired()
    if not has_room(size) then
      return {'full'}
    end
  end
  -- Before the books: a server without memory refuses a script's first write, and none after it.
  redis.call('SET', value, new, 'PX', whole(life))
  forget(value, expiries, sizes, index)
  remember(size, life)
  return {'ok'}
end

if operation == 'get' then
  local held = redis.call('GET', value)
  if held then
    return {'ok', held}
  end
  return {'ok'}
end

if operation == 'set' then
  return write(ARGV[7], #ARGV[7] + overhead, life_of(ARGV[8]))
end

if operation == 'remove' then
  return {'ok', tostring(remove())}
end

if operation == 'swap' then
  -- ARGV: 1 if a value is expected, the expected value, 1 if there is a new one, the new one, its life.
  local held = redis.call('GET', value)
  local expected = false
  if ARGV[7] == '1' then
    expected = ARGV[8]
  end
  if held ~= expected then
    return {'ok', '0'}
  end
  if ARGV[9] == '0' then
    remove()
    return {'ok', '1'}
  end
  local written = write(ARGV[10], #ARGV[10] + overhead, life_of(ARGV[11]))
  if written[1] == 'ok' then
    written[2] = '1'
  end
  return written
end

-- increment. ARGV: by how much, the life of a new counter. Lua's numbers would round; Redis' own addition does not.
local held = redis.call('GET', value)
if not held then
  local life = life_of(ARGV[8])
  local written = write(ARGV[7], 20 + overhead, life)
  if written[1] == 'ok' then
    written[2] = ARGV[7]
  end
  return written
end
local sign, digits = string.match(held, '^([+-]?)0*(%d+)$')
if not sign then
  return {'nan'}
end
local number = digits
if sign == '-' and digits ~= '0' then
  number = '-' .. digits
end
if #number > 20 then
  return {'nan'}
end
if number ~= held then
  redis.call('SET', value, number, 'KEEPTTL')
end
local added = redis.pcall('INCRBY', value, ARGV[7])
if type(added) == 'table' and added.err then
  redis.call('SET', value, held, 'KEEPTTL')
  return {'nan'}
end
return {'ok', redis.call('GET', value)}
