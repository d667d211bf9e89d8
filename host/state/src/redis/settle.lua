-- Settles what one draw cost: its bucket is full later, or earlier, than the draw has left it.
--
-- KEYS: the bucket's names, as in `charge.lua`.
-- ARGV: `later` or `earlier`, by how much, and the time that an empty bucket takes to fill; times as seconds and nanoseconds.
--
-- A bucket is never fuller than full, and never further from full than twice the time that an empty one takes: that is the
-- most that can be owed.

local time = redis.call('TIME')
local now = {tonumber(time[1]), tonumber(time[2]) * 1000}
local amount = {tonumber(ARGV[2]), tonumber(ARGV[3])}
local empty = {tonumber(ARGV[4]), tonumber(ARGV[5])}

local function later(a, b)
  return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2])
end

local function sum(a, b)
  local seconds, nanoseconds = a[1] + b[1], a[2] + b[2]
  if nanoseconds >= 1000000000 then
    return {seconds + 1, nanoseconds - 1000000000}
  end
  return {seconds, nanoseconds}
end

local function difference(a, b)
  local seconds, nanoseconds = a[1] - b[1], a[2] - b[2]
  if nanoseconds < 0 then
    return {seconds - 1, nanoseconds + 1000000000}
  end
  return {seconds, nanoseconds}
end

local full = {0, 0}
for _, name in ipairs(KEYS) do
  local s, n = string.match(redis.call('GETRANGE', name, 0, 31), '^(%d+):(%d+)$')
  if s and #s <= 11 and #n <= 9 and later({tonumber(s), tonumber(n)}, full) then
    full = {tonumber(s), tonumber(n)}
  end
end

local becomes
if ARGV[1] == 'later' then
  becomes = sum(later(full, now) and full or now, amount)
  local most = sum(sum(now, empty), empty)
  if later(becomes, most) then
    becomes = later(full, most) and full or most
  end
elseif later(full, now) then
  becomes = difference(full, amount)
else
  return 1
end
for name = 2, #KEYS do
  redis.call('DEL', KEYS[name])
end
if later(becomes, now) then
  local life = (becomes[1] - now[1]) * 1000 + math.ceil((becomes[2] - now[2]) / 1000000) + 1000
  redis.call('SET', KEYS[1], string.format('%.0f:%.0f', becomes[1], becomes[2]), 'PX', string.format('%.0f', life))
else
  redis.call('DEL', KEYS[1])
end
return 1
