-- Gives back what was charged to some buckets, because another part of the same decision was refused elsewhere.
--
-- ARGV[1]: names of each bucket. Then for each draw: from when to when its charge goes, each as seconds and nanoseconds.
-- KEYS: for each draw, its bucket's names, as in `charge.lua`.
--
-- Only what has not yet flowed back by itself is given back: giving back more would admit too much.

local time = redis.call('TIME')
local now = {tonumber(time[1]), tonumber(time[2]) * 1000}
local names = tonumber(ARGV[1])

local function later(a, b)
  return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2])
end

local function difference(a, b)
  local seconds, nanoseconds = a[1] - b[1], a[2] - b[2]
  if nanoseconds < 0 then
    return {seconds - 1, nanoseconds + 1000000000}
  end
  return {seconds, nanoseconds}
end

for draw = 1, #KEYS / names do
  local argument = 2 + (draw - 1) * 4
  local from = {tonumber(ARGV[argument]), tonumber(ARGV[argument + 1])}
  local to = {tonumber(ARGV[argument + 2]), tonumber(ARGV[argument + 3])}
  if later(now, from) then
    from = now
  end
  local first = (draw - 1) * names + 1
  local full = {0, 0}
  for name = first, first + names - 1 do
    local s, n = string.match(redis.call('GETRANGE', KEYS[name], 0, 31), '^(%d+):(%d+)$')
    if s and #s <= 11 and #n <= 9 and later({tonumber(s), tonumber(n)}, full) then
      full = {tonumber(s), tonumber(n)}
    end
  end
  if later(to, from) and later(full, now) then
    local becomes = difference(full, difference(to, from))
    for name = first, first + names - 1 do
      redis.call('DEL', KEYS[name])
    end
    if later(becomes, now) then
      local life = (becomes[1] - now[1]) * 1000 + math.ceil((becomes[2] - now[2]) / 1000000) + 1000
      local text = string.format('%.0f:%.0f', becomes[1], becomes[2])
      redis.call('SET', KEYS[first], text, 'PX', string.format('%.0f', life))
    end
  end
end
return 1
