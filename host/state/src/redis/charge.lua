-- Charges several buckets, or none if one of them is over its limit (GCRA: see `Rate`).
--
-- A bucket is the time at which it is full again, written as SECONDS:NANOSECONDS since 1970 by this server's clock. Both
-- numbers are exact in Lua, whose numbers are doubles; one number of nanoseconds would not be.
--
-- ARGV[1]: names of each bucket. Then for each draw: what it adds, and the time that an empty bucket takes to fill, each as
-- seconds and nanoseconds; and 1 if the draw costs anything, else 0.
-- KEYS: for each draw, its bucket's names: the first is written, all are read, and the latest time counts.
--
-- Answers with the server's seconds and nanoseconds, then for each draw the time at which its bucket was full before the
-- draw, and 1 if the draw by itself was within the limit.

local function later(a_s, a_n, b_s, b_n)
  return a_s > b_s or (a_s == b_s and a_n > b_n)
end

local function sum(a_s, a_n, b_s, b_n)
  local seconds, nanoseconds = a_s + b_s, a_n + b_n
  if nanoseconds >= 1000000000 then
    return seconds + 1, nanoseconds - 1000000000
  end
  return seconds, nanoseconds
end

local time = redis.call('TIME')
local now_s, now_n = tonumber(time[1]), tonumber(time[2]) * 1000
local names = tonumber(ARGV[1])
local answer = {now_s, now_n}
local buckets = {}
local refused = false

for draw = 1, #KEYS / names do
  local argument = 2 + (draw - 1) * 5
  local add_s, add_n = tonumber(ARGV[argument]), tonumber(ARGV[argument + 1])
  local empty_s, empty_n = sum(now_s, now_n, tonumber(ARGV[argument + 2]), tonumber(ARGV[argument + 3]))
  local first = (draw - 1) * names + 1
  local bucket = buckets[KEYS[first]]
  if not bucket then
    bucket = {0, 0, false}
    for name = first, first + names - 1 do
      -- At most 32 bytes are read, whatever somebody else has put there.
      local held = redis.call('GETRANGE', KEYS[name], 0, 31)
      if held ~= '' then
        local s, n = string.match(held, '^(%d+):(%d+)$')
        if not s or #s > 11 or #n > 9 then
          return redis.error_reply('MALFORMED a bucket holds something else')
        end
        s, n = tonumber(s), tonumber(n)
        if later(s, n, bucket[1], bucket[2]) then
          bucket[1], bucket[2] = s, n
        end
      end
    end
  end
  -- No bucket owes more than it holds: the limit was lowered, or the clock went back, as it may after a failover.
  local owing_s, owing_n = sum(empty_s, empty_n, tonumber(ARGV[argument + 2]), tonumber(ARGV[argument + 3]))
  if later(bucket[1], bucket[2], owing_s, owing_n) then
    bucket[1], bucket[2] = owing_s, owing_n
  end
  local from_s, from_n = bucket[1], bucket[2]
  if later(now_s, now_n, from_s, from_n) then
    from_s, from_n = now_s, now_n
  end
  local after_s, after_n = sum(from_s, from_n, add_s, add_n)
  local costs = ARGV[argument + 4] == '1'
  local admitted = not costs or not later(after_s, after_n, empty_s, empty_n)
  answer[#answer + 1] = bucket[1]
  answer[#answer + 1] = bucket[2]
  answer[#answer + 1] = admitted and 1 or 0
  if not admitted then
    refused = true
  elseif costs then
    bucket = {after_s, after_n, true}
  end
  buckets[KEYS[first]] = bucket
end

if not refused then
  for name, bucket in pairs(buckets) do
    if bucket[3] then
      -- A bucket that is full again needs no memory. One second more, because expiry has a clock of its own.
      local life = (bucket[1] - now_s) * 1000 + math.ceil((bucket[2] - now_n) / 1000000) + 1000
      redis.call('SET', name, string.format('%.0f:%.0f', bucket[1], bucket[2]), 'PX', string.format('%.0f', life))
    end
  end
end
return answer
