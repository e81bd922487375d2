-- May a job of this lane begin now? Asked in the same step in which it begins, so that what is seen
-- cannot change in between.
--
-- KEYS[1]  gpumem:lane:<lane>      what the coordinator says of the lane; absent: nobody coordinates
-- KEYS[2]  gpumem:running:<lane>   {job: until when it counts}, written here
-- ARGV     job id, milliseconds that the job counts at most
--
-- Answers {1, now} where it began, else {0, milliseconds after which to ask again, reason}. The
-- rivals' lists are named in the coordinator's document, not in KEYS: with Redis Cluster all of them
-- must be in one slot.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = redis.call('GET', KEYS[1])
if text then
  local lane = cjson.decode(text)
  local again = math.floor(lane.retry_after_seconds * 1000)
  if not lane.open then
    return {0, again, lane.reason}
  end
  for _, base in ipairs(lane.yields_to) do
    if redis.call('LLEN', base .. ':active') > 0 then
      return {0, again, 'yields'}
    end
    if redis.call('HEXISTS', base .. ':meta', 'paused') == 0 then
      local waiting = redis.call('LLEN', base .. ':wait')
      -- BullMQ 4 wakes its workers by an entry 0:<time>, which is no job.
      local last = redis.call('LINDEX', base .. ':wait', -1)
      if last and string.sub(last, 1, 2) == '0:' then
        waiting = waiting - 1
      end
      if waiting + redis.call('ZCARD', base .. ':prioritized') > 0 then
        return {0, again, 'yields'}
      end
    end
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
return {1, now}
