package driver

// symbol is an index into symbols.
type symbol uint8

const (
	cuInit symbol = iota
	cuDriverGetVersion
	cuGetErrorName
	cuGetErrorString
	cuDeviceGetCount
	cuDeviceGet
	cuDeviceGetName
	cuDeviceGetUUID
	cuDeviceGetPCIBusID
	cuDeviceGetAttribute
	cuDeviceTotalMem
	cuDevicePrimaryCtxRetain
	cuDevicePrimaryCtxRelease
	cuCtxSetCurrent
	cuCtxSynchronize
	cuMemGetInfo
	cuMemAlloc
	cuMemFree
	cuMemHostAlloc
	cuMemFreeHost
	cuMemHostGetDevicePointer
	cuMemcpyHtoDAsync
	cuMemcpyDtoHAsync
	cuMemcpyDtoDAsync
	cuMemsetD8Async
	cuMemsetD32Async
	cuStreamCreate
	cuStreamDestroy
	cuStreamSynchronize
	cuStreamWaitEvent
	cuStreamBeginCapture
	cuStreamEndCapture
	cuEventCreate
	cuEventDestroy
	cuEventRecord
	cuEventQuery
	cuEventSynchronize
	cuEventElapsedTime
	cuModuleLoadDataEx
	cuModuleUnload
	cuModuleGetFunction
	cuFuncGetAttribute
	cuFuncSetAttribute
	cuOccupancyMaxActiveBlocks
	cuLaunchKernelEx
	cuGraphInstantiate
	cuGraphDestroy
	cuGraphLaunch
	cuGraphExecDestroy
	numSymbols
)

// minimumRelease is the first NVIDIA driver that has every function below.
const minimumRelease = "520"

// symbols gives each function the name that the library exports and the CUDA
// version that brought it. The suffixes matter: a bare name is the ABI of 2010.
var symbols = [numSymbols]struct {
	name  string
	since int
}{
	cuInit:                     {"cuInit", 2000},
	cuDriverGetVersion:         {"cuDriverGetVersion", 2020},
	cuGetErrorName:             {"cuGetErrorName", 6000},
	cuGetErrorString:           {"cuGetErrorString", 6000},
	cuDeviceGetCount:           {"cuDeviceGetCount", 2000},
	cuDeviceGet:                {"cuDeviceGet", 2000},
	cuDeviceGetName:            {"cuDeviceGetName", 2000},
	cuDeviceGetUUID:            {"cuDeviceGetUuid_v2", 11040},
	cuDeviceGetPCIBusID:        {"cuDeviceGetPCIBusId", 4010},
	cuDeviceGetAttribute:       {"cuDeviceGetAttribute", 2000},
	cuDeviceTotalMem:           {"cuDeviceTotalMem_v2", 3020},
	cuDevicePrimaryCtxRetain:   {"cuDevicePrimaryCtxRetain", 7000},
	cuDevicePrimaryCtxRelease:  {"cuDevicePrimaryCtxRelease_v2", 11000},
	cuCtxSetCurrent:            {"cuCtxSetCurrent", 4000},
	cuCtxSynchronize:           {"cuCtxSynchronize", 2000},
	cuMemGetInfo:               {"cuMemGetInfo_v2", 3020},
	cuMemAlloc:                 {"cuMemAlloc_v2", 3020},
	cuMemFree:                  {"cuMemFree_v2", 3020},
	cuMemHostAlloc:             {"cuMemHostAlloc", 2020},
	cuMemFreeHost:              {"cuMemFreeHost", 2000},
	cuMemHostGetDevicePointer:  {"cuMemHostGetDevicePointer_v2", 3020},
	cuMemcpyHtoDAsync:          {"cuMemcpyHtoDAsync_v2", 3020},
	cuMemcpyDtoHAsync:          {"cuMemcpyDtoHAsync_v2", 3020},
	cuMemcpyDtoDAsync:          {"cuMemcpyDtoDAsync_v2", 3020},
	cuMemsetD8Async:            {"cuMemsetD8Async", 3020},
	cuMemsetD32Async:           {"cuMemsetD32Async", 3020},
	cuStreamCreate:             {"cuStreamCreate", 2000},
	cuStreamDestroy:            {"cuStreamDestroy_v2", 4000},
	cuStreamSynchronize:        {"cuStreamSynchronize", 2000},
	cuStreamWaitEvent:          {"cuStreamWaitEvent", 3020},
	cuStreamBeginCapture:       {"cuStreamBeginCapture_v2", 10010},
	cuStreamEndCapture:         {"cuStreamEndCapture", 10000},
	cuEventCreate:              {"cuEventCreate", 2000},
	cuEventDestroy:             {"cuEventDestroy_v2", 4000},
	cuEventRecord:              {"cuEventRecord", 2000},
	cuEventQuery:               {"cuEventQuery", 2000},
	cuEventSynchronize:         {"cuEventSynchronize", 2000},
	cuEventElapsedTime:         {"cuEventElapsedTime", 2000},
	cuModuleLoadDataEx:         {"cuModuleLoadDataEx", 2010},
	cuModuleUnload:             {"cuModuleUnload", 2000},
	cuModuleGetFunction:        {"cuModuleGetFunction", 2000},
	cuFuncGetAttribute:         {"cuFuncGetAttribute", 2020},
	cuFuncSetAttribute:         {"cuFuncSetAttribute", 9000},
	cuOccupancyMaxActiveBlocks: {"cuOccupancyMaxActiveBlocksPerMultiprocessor", 6050},
	cuLaunchKernelEx:           {"cuLaunchKernelEx", 11080},
	cuGraphInstantiate:         {"cuGraphInstantiateWithFlags", 11040},
	cuGraphDestroy:             {"cuGraphDestroy", 10000},
	cuGraphLaunch:              {"cuGraphLaunch", 10000},
	cuGraphExecDestroy:         {"cuGraphExecDestroy", 10000},
}

// listing are the functions that Load and Devices call: an older driver can
// still say what there is. Open needs all.
var listing = []symbol{cuInit, cuDriverGetVersion, cuGetErrorName, cuGetErrorString, cuDeviceGetCount, cuDeviceGet, cuDeviceGetName, cuDeviceGetPCIBusID, cuDeviceGetAttribute, cuDeviceTotalMem}
